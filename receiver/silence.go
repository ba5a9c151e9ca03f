package receiver

import "time"

// Silence mutes the notifications for an alert. The last of several rows for an alert is
// in force.
type Silence struct {
	V       int       `json:"v"`
	At      time.Time `json:"at"`
	Host    string    `json:"host"`
	Symptom string    `json:"symptom"`
	Until   time.Time `json:"until,omitzero"` // zero: until the alert resolves
	End     bool      `json:"end,omitempty"`  // the silence ends
	Comment string    `json:"comment,omitempty"`
	Clock   time.Time `json:"clock,omitzero"` // the clock's time, if it was behind the row above
}

// Key returns the alert that the silence is for.
func (s Silence) Key() AlertKey { return AlertKey{s.Host, s.Symptom} }

// When returns when the silence was made.
func (s Silence) When() time.Time {
	if !s.Clock.IsZero() {
		return s.Clock
	}
	return s.At
}

// Covers reports whether the silence mutes an alert that began at a time. Without an
// expiry it covers only the alert that was firing when it was made.
func (s Silence) Covers(began, now time.Time) bool {
	switch {
	case s.At.IsZero() || s.End:
		return false
	case s.Until.IsZero():
		return !s.When().Before(began)
	}
	return now.Before(s.Until)
}
