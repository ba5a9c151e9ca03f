// Package roster is what the receiver knows of the hosts that should exist: the
// authority writes it, serve and fleet-check read it.
//
// roster.jsonl is a ledger of events; folding it gives each host's state. It
// holds no secret: bearers and tokens are there as sha256 only. A reader sees a
// row as a whole or not at all, so a crash of the writer never shows half an
// enrolment. This package refuses to write: the authority alone does.
package roster

import (
	"time"

	"cis490/internal/ident"
)

// Kind says what happened to a host.
type Kind string

// The kinds of event.
const (
	TokenMade      Kind = "token" // an older token of the host is void
	TokenRevoked   Kind = "token-revoked"
	TokenMisused   Kind = "token-misused" // by another key than the one it is bound to
	Enrolled       Kind = "enrolled"      // revokes every serial before it, and decommissions Other
	Renewed        Kind = "renewed"
	Decommissioned Kind = "decommissioned"
	Readmitted     Kind = "readmitted" // a new token is needed to enrol
)

// Event is a row of the roster.
type Event struct {
	At      time.Time    `json:"at"`
	Host    ident.Host   `json:"host"`
	Event   Kind         `json:"event"`
	Serial  string       `json:"serial,omitempty"`
	Key     ident.Digest `json:"key,omitempty"`           // KeyID of the certificate
	Bearer  ident.Digest `json:"bearer_sha256,omitempty"` // at enrolment
	Expires time.Time    `json:"expires,omitzero"`        // of the token or the certificate
	From    string       `json:"from,omitempty"`          // address that asked
	Other   ident.Host   `json:"other,omitempty"`         // the host that this one replaces or is replaced by
	Clock   time.Time    `json:"clock,omitzero"`          // when it happened, where the clock was behind the row above
}

// State is where a host stands.
type State string

// The states.
const (
	Pending State = "pending" // a token was made, not yet used
	Active  State = "active"
	Gone    State = "decommissioned"
)

// Host is one host's state, folded from its events.
type Host struct {
	Name         ident.Host           `json:"host"`
	State        State                `json:"state"`
	Since        time.Time            `json:"since"`
	Bearer       ident.Digest         `json:"-"`
	Key          ident.Digest         `json:"key,omitempty"` // last issued to
	CertExpires  time.Time            `json:"certificate_expires,omitzero"`
	CertIssued   time.Time            `json:"-"`
	TokenExpires time.Time            `json:"token_expires,omitzero"` // of a token that is not yet used
	EnrolledAt   time.Time            `json:"enrolled_at,omitzero"`
	Misused      time.Time            `json:"token_misused,omitzero"`       // when a thief last tried its latest token
	MisusedFrom  string               `json:"token_misused_from,omitempty"` // and from where
	Other        ident.Host           `json:"other,omitempty"`              // replaces it, or is replaced by it
	valid        map[string]time.Time // serials issued since the last enrolment, and when they expire
}

// CertLife returns the life of the certificate that was issued last, which may be another
// than the one that the config asks for today.
func (h Host) CertLife() time.Duration {
	if h.CertIssued.IsZero() {
		return 0
	}
	return h.CertExpires.Sub(h.CertIssued)
}

// Ending reports whether the certificate is in the last sixth of its life or over.
// Renewal begins in the last third.
func (h Host) Ending(now time.Time) bool {
	return !h.CertExpires.IsZero() && h.CertExpires.Sub(now) < h.CertLife()/6
}

// Valid tells whether a certificate's serial is one that this host may use:
// issued since its last enrolment, and the host is active. Serials that have
// expired may be forgotten; the certificate's own dates are to be checked first.
func (h Host) Valid(serial string) bool {
	_, ok := h.valid[serial]
	return ok && h.State == Active
}
