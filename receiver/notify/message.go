package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"cis490/internal/plain"
	"cis490/receiver/fleet"
)

// shown is how many hosts a notification lists.
const shown = 20

// Message is a notification: the alerts of one run that have one cause.
type Message struct {
	Key    string        `json:"key"` // idempotency key: repeats have the same
	At     time.Time     `json:"at"`
	State  string        `json:"state"` // "firing" or "resolved"
	Again  bool          `json:"again"` // a repeat for alerts that are still open
	More   bool          `json:"more"`  // further alerts of a cause that was notified shortly before
	Code   string        `json:"reason_code,omitempty"`
	Check  string        `json:"check,omitempty"`
	Title  string        `json:"title"`
	Text   string        `json:"text"`
	Alerts []fleet.Alert `json:"alerts"`
}

// messages groups the rows of one run by cause. It leaves out rows that are not notified,
// and those that were already.
func (d *delivery) messages(rows []fleet.Alert) []Message {
	var all []Message
	for _, a := range rows {
		last, known := d.lastNotified(a.Key())
		again := known && a.State == fleet.Firing
		over := a.State == fleet.Resolved // also of a quiet alert, if it was notified before it became quiet
		if over && a.Silenced {
			d.forget(a.Key())
		}
		switch {
		case over && (a.Silenced || !known), !over && (!a.Notify() || d.muted(a.Key())), again && a.When().Sub(last.At) < d.o.RepeatAfter:
			continue
		case over:
			a.Code, a.Check = last.Code, last.Check
		}
		i := slices.IndexFunc(all, func(m Message) bool { return m.of(a.State, again, a.Code, a.Check) })
		if i < 0 {
			i = len(all)
			all = append(all, Message{At: a.When(), State: a.State, Again: again, Code: a.Code, Check: a.Check})
		}
		all[i].Alerts = append(all[i].Alerts, a)
	}
	return all
}

// muted reports whether an alert is open, but not notified any more.
func (d *delivery) muted(k fleet.Key) bool {
	return slices.ContainsFunc(d.o.Open, func(a fleet.Alert) bool { return a.Key() == k && !a.Notify() })
}

// of reports whether a message is about a cause.
func (m Message) of(state string, again bool, code, check string) bool {
	return m.State == state && m.Again == again && m.Code == code && m.Check == check
}

// finish sets a message's key, which depends on its content, its title and its text.
func (m *Message) finish() {
	h := sha256.New()
	for _, a := range m.Alerts {
		_, _ = fmt.Fprintln(h, a.At.UnixNano(), a.Host, a.Symptom, m.State, m.Again, m.Code, m.Check) // a hash takes all
	}
	m.Key = hex.EncodeToString(h.Sum(nil)[:10])
	m.Title, m.Text = m.words()
}

func (d *delivery) lastNotified(k fleet.Key) (Notified, bool) {
	i := slices.IndexFunc(d.s.Notified, func(t Notified) bool { return t.Host == k.Host && t.Symptom == k.Symptom })
	if i < 0 {
		return Notified{}, false
	}
	return d.s.Notified[i], true
}

// forget removes an alert from those that are open for the target.
func (d *delivery) forget(k fleet.Key) {
	d.s.Notified = slices.DeleteFunc(d.s.Notified, func(t Notified) bool { return t.Host == k.Host && t.Symptom == k.Symptom })
}

// markNotified records that a message was sent.
func (d *delivery) markNotified(m Message) {
	for _, a := range m.Alerts {
		d.forget(a.Key())
		if m.State == fleet.Firing {
			d.s.Notified = append(d.s.Notified, Notified{a.Host, a.Symptom, a.Code, a.Check, a.Since, a.When()})
		}
	}
}

// words returns the title and the text for people.
func (m Message) words() (title, text string) {
	hosts := distinct(m.Alerts, func(a fleet.Alert) string { return a.Host })
	symptoms := distinct(m.Alerts, func(a fleet.Alert) string { return a.Symptom })
	who := hosts[0]
	if len(hosts) > 1 {
		who = fmt.Sprintf("%d hosts", len(hosts))
	}
	if m.More {
		who += " too"
	}
	what := strings.Join(symptoms, ", ")
	switch {
	case m.State == fleet.Resolved:
		title = fmt.Sprintf("cis490: [RESOLVED] %s: %s", who, what)
	case m.Again:
		title = fmt.Sprintf("cis490: %s: still %s", who, what)
	default:
		title = fmt.Sprintf("cis490: %s: %s", who, what)
	}
	var b strings.Builder
	for i, a := range m.Alerts {
		if i == shown {
			fmt.Fprintf(&b, "and %d more: cis490 alerts list\n", len(m.Alerts)-shown)
			break
		}
		fmt.Fprintf(&b, "%s %s since %s", a.Host, a.Symptom, plain.Time(a.Since))
		if m.State == fleet.Firing {
			fmt.Fprintf(&b, ": %s\n  why: %s\n  fix: %s", a.Detail, a.Reason, a.Fix)
		} else {
			fmt.Fprintf(&b, " until %s", plain.Time(a.When()))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "(%s)\n", m.Key)
	return title, b.String()
}

func distinct(all []fleet.Alert, of func(fleet.Alert) string) []string {
	var names []string
	for _, a := range all {
		if s := of(a); !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	return names
}
