package receiver

import (
	"fmt"
	"time"
)

// Itself is the host of alerts about the receiver. A host cannot have this name.
const Itself = "@receiver"

// The states of an alert. An Opening row begins an hour: it lists the alerts that were
// firing before it, so that readers do not need rows from before that hour.
const (
	Firing   = "firing"
	Resolved = "resolved"
	Opening  = "open"
)

// AlertKey names an alert.
type AlertKey struct{ Host, Symptom string }

// Alert is a row of the alerts.
type Alert struct {
	V       int       `json:"v"`
	At      time.Time `json:"at"`
	Host    string    `json:"host,omitempty"` // Itself for the receiver
	Symptom string    `json:"symptom,omitempty"`
	State   string    `json:"state"`
	Since   time.Time `json:"since,omitzero"`
	Hour    time.Time `json:"hour"` // start of the row's hour
	Detail  string    `json:"detail,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Code    string    `json:"reason_code,omitempty"`
	Check   string    `json:"check,omitempty"`
	Fix     string    `json:"fix,omitempty"`
	Quiet   bool      `json:"quiet,omitempty"` // not notified, because the host left cleanly
	// Silenced reports that a person muted the notifications.
	Silenced bool        `json:"silenced,omitempty"`
	Open     []OpenAlert `json:"open,omitempty"` // of an opening row
	More     int         `json:"more,omitempty"` // number of opening rows of this hour that follow
	// Clock is when the row was written, if the clock was behind the row above. At is then
	// that row's time.
	Clock time.Time `json:"clock,omitzero"`
}

// OpenAlert is a firing alert in an opening row.
type OpenAlert struct {
	Host    string    `json:"host"`
	Symptom string    `json:"symptom"`
	Since   time.Time `json:"since"`
	Began   time.Time `json:"began,omitzero"` // first row of this firing
	Quiet   bool      `json:"quiet,omitempty"`
}

// Key returns the alert of the row.
func (a Alert) Key() AlertKey { return AlertKey{a.Host, a.Symptom} }

// Notify reports whether the row triggers notifications.
func (a Alert) Notify() bool { return a.State != Opening && !a.Quiet && !a.Silenced }

// When returns when the row was written: Clock if it is set, otherwise At.
func (a Alert) When() time.Time {
	if !a.Clock.IsZero() {
		return a.Clock
	}
	return a.At
}

// Line returns the row as one line for syslog.
func (a Alert) Line() string {
	return fmt.Sprintf("cis490 fleet-alert host=%s symptom=%s state=%s since=%s reason=%q fix=%q detail=%q",
		a.Host, a.Symptom, a.State, a.Since.UTC().Format(time.RFC3339), a.Reason, a.Fix, a.Detail)
}
