// Package contacts keeps what the receiver notes of hosts beside their
// episodes: contacts.json (when and how each was heard), rejections.jsonl (what
// was refused) and host-health/ (each host's last snapshots). serve writes
// them; fleet-check and doctor read them.
//
// All of it is bounded: in hosts by the roster, in failures and strangers by a
// few each, in refusals by counting repeats. On a crash contacts.json is whole
// but may be a few seconds old, and counts of the running hour may be lost;
// no episode depends on them. A name that only the sender vouches for is kept
// as a claim, apart from what a certificate proves.
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

// What the file is bounded by.
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
	BeganAt   time.Time               `json:"began_at,omitzero"` // what was before is not known
	Receiver  Receiver                `json:"receiver"`
	Hosts     map[ident.Host]*Contact `json:"hosts"`
	// UnknownClients are the last requests whose sender is no host of the roster.
	UnknownClients     []AuthFailure `json:"strangers,omitempty"`
	UnknownClientCount uint64        `json:"stranger_count,omitempty"`
}

// Receiver says since when serve runs, and when it could not take episodes.
type Receiver struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Ready     bool      `json:"ready"`
	// Outages are the times in which episodes could not be taken, being stopped
	// included, oldest first. The running one has no end.
	Outages []Span `json:"outages,omitempty"`
	// Compared is the last full comparison of rows and files.
	Compared *receiver.Comparison `json:"compared,omitempty"`
	// Clock is how the times in the book lie along the receiver's clock, and Jumps are
	// the last jumps of that clock that the book was moved by, latest last.
	Clock clock.Line `json:"clock,omitzero"`
	Jumps []Jump     `json:"jumps,omitempty"`
}

// Jump is one jump of the receiver's clock.
type Jump struct {
	At time.Time     `json:"at"` // by the clock from then on
	By time.Duration `json:"by_ns"`
}

// Span is a time from one moment to another.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"` // zero while it lasts
}

// Contact is what is known of one host.
type Contact struct {
	LastContact time.Time `json:"last_contact,omitzero"` // identity accepted
	LastPing    time.Time `json:"last_ping,omitzero"`
	From        string    `json:"from,omitempty"` // address of the last contact

	// What the last ping said; text from the host.
	Version     string       `json:"version,omitempty"`
	Commit      ident.Commit `json:"commit,omitempty"`
	Queue       wire.Queue   `json:"queue"`
	ClockOffset float64      `json:"clock_offset_seconds"` // host's clock minus the receiver's
	Failing     []string     `json:"failing,omitempty"`
	OS          string       `json:"os,omitempty"`
	Arch        string       `json:"arch,omitempty"`
	Update      *wire.Update `json:"update,omitempty"` // nil: nothing keeps it on releases
	Leaving     bool         `json:"leaving,omitempty"`
	LeavingAt   time.Time    `json:"leaving_at,omitzero"`
	BackAt      time.Time    `json:"back_at,omitzero"` // first ping after it had left
	Boots       []Boot       `json:"boots,omitempty"`  // the last few, latest last

	// What became of its episodes.
	LastAccepted     time.Time `json:"last_accepted,omitzero"`
	LastRefused      *Refused  `json:"last_refused,omitempty"`
	RefusedSince     time.Time `json:"refused_since,omitzero"` // first refusal after the last acceptance
	RefusedCount     uint64    `json:"refused_count,omitempty"`
	LastFailed       time.Time `json:"last_failed,omitzero"`    // a PUT that the receiver could not take
	LastUnstamped    time.Time `json:"last_unstamped,omitzero"` // a PUT without a commit
	CertificateUntil time.Time `json:"certificate_until,omitzero"`
	Serial           string    `json:"serial,omitempty"`

	// Knocks are refused contacts, latest last: Proven by a valid chain, or
	// Unverified of anyone who knows the host's name.
	Verified   []AuthFailure `json:"knocks,omitempty"`
	Unverified []AuthFailure `json:"claims,omitempty"`
}

// Boot is one boot id under which a host was heard.
type Boot struct {
	ID    string    `json:"id"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Refused is the answer to a PUT that was refused for good.
type Refused struct {
	At     time.Time `json:"at"`
	Status int       `json:"status"`
	Kind   wire.Kind `json:"kind"`
	Detail string    `json:"detail,omitempty"`
}

// AuthFailure is a contact whose identity was refused. Repeats of the same kind are
// one knock, counted.
type AuthFailure struct {
	At     time.Time `json:"at"` // of the last one
	Since  time.Time `json:"since"`
	Count  uint64    `json:"count"`
	Kind   wire.Kind `json:"kind"`
	Name   string    `json:"claim,omitempty"` // of strangers: the name that was given
	From   string    `json:"from,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Read returns the contacts as serve last wrote them. If there are none yet, they are
// empty.
func Read(docs receiver.Docs) (Contacts, error) {
	c := Contacts{V: 1, Hosts: map[ident.Host]*Contact{}}
	b, err := docs.Load(receiver.ContactsDoc, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
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
