// Package contacts records the hosts' requests: contacts.json has the last ones of each
// host, rejections.jsonl the rejected ones, host-health/ each host's last health reports.
// serve writes them; fleet-check and doctor read them.
//
// Everything is bounded: hosts by the roster, authentication failures by a small number
// for each host and for all unknown clients, rejections by counting repeats. After a
// crash contacts.json is whole but may be a few seconds old, and counts of the current
// hour may be lost; no episode depends on them. Requests whose certificate proves the
// host's name (verified) are kept apart from those that only carry it (unverified).
package contacts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cis490/internal/clock"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// The bounds of the file.
const (
	maxHosts          = 10_000
	maxAuthFailures   = 5
	maxUnknownClients = 20
	maxBoots          = 4
	maxOutages        = 50
	maxJumps          = 20
	maxFile           = 64 << 20
)

// Contacts is contacts.json.
type Contacts struct {
	V         int                     `json:"v"`
	WrittenAt time.Time               `json:"written_at"`
	BeganAt   time.Time               `json:"began_at,omitzero"` // start of the first serve
	Receiver  Receiver                `json:"receiver"`
	Hosts     map[ident.Host]*Contact `json:"hosts"`
	// UnknownClients are the last rejected requests of clients that are not in the roster.
	UnknownClients     []AuthFailure `json:"strangers,omitempty"`
	UnknownClientCount uint64        `json:"stranger_count,omitempty"`
}

// Receiver describes serve: when it started, and when it could not accept episodes.
type Receiver struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Ready     bool      `json:"ready"`
	// Outages are the periods without accepted episodes, oldest first: serve was not
	// ready, or did not run. The current one has no end.
	Outages []Span `json:"outages,omitempty"`
	// Compared is the last full comparison of rows and files.
	Compared *receiver.Comparison `json:"compared,omitempty"`
	// Clock relates the stored times to the receiver's clock. Jumps are the last jumps of
	// that clock, which the stored times were moved by; the newest is the last.
	Clock clock.Line `json:"clock,omitzero"`
	Jumps []Jump     `json:"jumps,omitempty"`
}

// Jump is one jump of the receiver's clock.
type Jump struct {
	At time.Time     `json:"at"` // by the clock after the jump
	By time.Duration `json:"by_ns"`
}

// Span is a period of time.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"` // zero while it lasts
}

// Contact is what is known of one host.
type Contact struct {
	LastContact time.Time `json:"last_contact,omitzero"` // identity accepted
	LastPing    time.Time `json:"last_ping,omitzero"`
	From        string    `json:"from,omitempty"` // address of the last contact

	// The content of the last ping. All text is the host's.
	Version     string         `json:"version,omitempty"`
	Commit      ident.Commit   `json:"commit,omitempty"`
	Queue       wire.Queue     `json:"queue"`
	ClockOffset float64        `json:"clock_offset_seconds"` // host's clock minus the receiver's
	Failing     []string       `json:"failing,omitempty"`    // also of a health report that is newer than the ping
	OS          string         `json:"os,omitempty"`
	Arch        string         `json:"arch,omitempty"`
	Update      *wire.Update   `json:"update,omitempty"`   // nil: the host has no automatic updates
	Hardware    *wire.Hardware `json:"hardware,omitempty"` // nil: not reported
	Leaving     bool           `json:"leaving,omitempty"`
	LeavingAt   time.Time      `json:"leaving_at,omitzero"`
	Uninstalled bool           `json:"uninstalled,omitempty"` // it left for good, until its next ping
	BackAt      time.Time      `json:"back_at,omitzero"`      // first ping after it left
	Boots       []Boot         `json:"boots,omitempty"`       // the newest is the last

	// The results of its uploads.
	LastAccepted     time.Time `json:"last_accepted,omitzero"`
	LastRefused      *Refused  `json:"last_refused,omitempty"`
	RefusedSince     time.Time `json:"refused_since,omitzero"` // first refusal after the last acceptance
	RefusedCount     uint64    `json:"refused_count,omitempty"`
	LastFailed       time.Time `json:"last_failed,omitzero"`    // a PUT that failed in the receiver
	LastUnstamped    time.Time `json:"last_unstamped,omitzero"` // a PUT without a commit
	CertificateUntil time.Time `json:"certificate_until,omitzero"`
	Serial           string    `json:"serial,omitempty"`

	// Verified and Unverified are requests whose identity was rejected; the newest is the
	// last. The certificate chain of the Verified ones is valid. Everyone who knows the
	// host's name can cause an Unverified one.
	Verified   []AuthFailure `json:"knocks,omitempty"`
	Unverified []AuthFailure `json:"claims,omitempty"`
}

// Boot is a boot id from a host's pings.
type Boot struct {
	ID    string    `json:"id"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Refused is the answer to a PUT that was refused permanently.
type Refused struct {
	At     time.Time `json:"at"`
	Status int       `json:"status"`
	Kind   wire.Kind `json:"kind"`
	Detail string    `json:"detail,omitempty"`
}

// AuthFailure is a request whose identity was rejected. Repeats of the same kind are
// counted in one AuthFailure.
type AuthFailure struct {
	At     time.Time `json:"at"` // of the last one
	Since  time.Time `json:"since"`
	Count  uint64    `json:"count"`
	Kind   wire.Kind `json:"kind"`
	Name   string    `json:"claim,omitempty"` // the name that an unknown client gave
	From   string    `json:"from,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Read returns the contacts that serve wrote last. Without a file they are empty.
func Read(docs receiver.Docs) (Contacts, error) {
	c := Contacts{V: 1, Hosts: map[ident.Host]*Contact{}}
	b, err := docs.Load(receiver.ContactsDoc, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, &c); err != nil {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if err != nil {
		return Contacts{Hosts: map[ident.Host]*Contact{}}, fmt.Errorf("read %s: %w", receiver.ContactsDoc, err)
	}
	if c.Hosts == nil {
		c.Hosts = map[ident.Host]*Contact{}
	}
	for h, k := range c.Hosts {
		if k == nil {
			delete(c.Hosts, h)
		}
	}
	return c, nil
}
