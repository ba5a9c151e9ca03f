// Package roster describes the hosts that belong to the fleet. The authority writes the
// roster, serve and fleet-check read it.
//
// roster.jsonl is a ledger of events, which fold into each host's state. It contains no
// secret: bearers and tokens are stored as SHA-256 only. Readers see whole rows only, so
// that a crash of the writer never shows half an enrollment. This package does not write.
package roster

import (
	"time"

	"cis490/internal/ident"
)

// Kind is the kind of an event.
type Kind string

// The kinds of event.
const (
	TokenMade      Kind = "token" // voids the host's older token
	TokenRevoked   Kind = "token-revoked"
	TokenMisused   Kind = "token-misused" // tried by another key than the one it is bound to
	Enrolled       Kind = "enrolled"      // revokes all earlier serials, and decommissions Other
	Renewed        Kind = "renewed"
	Decommissioned Kind = "decommissioned"
	Readmitted     Kind = "readmitted" // the host needs a new token to enroll
)

// Event is a row of the roster.
type Event struct {
	At      time.Time    `json:"at"`
	Host    ident.Host   `json:"host"`
	Event   Kind         `json:"event"`
	Serial  string       `json:"serial,omitempty"`
	Key     ident.Digest `json:"key,omitempty"`           // KeyID of the certificate
	Bearer  ident.Digest `json:"bearer_sha256,omitempty"` // at enrollment
	Expires time.Time    `json:"expires,omitzero"`        // of the token or the certificate
	From    string       `json:"from,omitempty"`          // address of the client
	Other   ident.Host   `json:"other,omitempty"`         // the host that this one replaces or is replaced by
	Clock   time.Time    `json:"clock,omitzero"`          // when it happened, if the clock was behind the row above
}

// State is a host's state of enrollment.
type State string

// The states.
const (
	Pending State = "pending" // a token was made, not yet used
	Active  State = "active"
	Gone    State = "decommissioned"
)

// Host is a host's state, folded from its events.
type Host struct {
	Name         ident.Host           `json:"host"`
	State        State                `json:"state"`
	Since        time.Time            `json:"since"`
	Bearer       ident.Digest         `json:"-"`
	Key          ident.Digest         `json:"key,omitempty"` // key of the last certificate
	CertExpires  time.Time            `json:"certificate_expires,omitzero"`
	CertIssued   time.Time            `json:"-"`
	TokenExpires time.Time            `json:"token_expires,omitzero"` // of an unused token
	EnrolledAt   time.Time            `json:"enrolled_at,omitzero"`
	Misused      time.Time            `json:"token_misused,omitzero"`       // when another key last tried its newest token
	MisusedFrom  string               `json:"token_misused_from,omitempty"` // and its address
	Other        ident.Host           `json:"other,omitempty"`              // replaces it, or was replaced by it
	valid        map[string]time.Time // expiry of each serial issued since the last enrollment
}

// CertLife returns the validity period of the last certificate, which may differ from the
// present setting.
func (h Host) CertLife() time.Duration {
	if h.CertIssued.IsZero() {
		return 0
	}
	return h.CertExpires.Sub(h.CertIssued)
}

// Ending reports whether a certificate that ends at a time is in the last sixth of its
// validity, or expired. Renewal begins in the last third.
func (h Host) Ending(end, now time.Time) bool {
	return !h.CertExpires.IsZero() && end.Sub(now) < h.CertLife()/6
}

// Valid reports whether the host may use a certificate's serial: the host is active, and
// the serial was issued since its last enrollment. Expired serials may be forgotten, so
// callers must check the certificate's dates first.
func (h Host) Valid(serial string) bool {
	_, ok := h.valid[serial]
	return ok && h.State == Active
}
