package notify

import (
	"context"
	"slices"
	"time"

	"cis490/receiver/fleet"
)

// Cause is the cause of a recent notification. Alerts about its first hosts are sent at
// once. Those that follow are collected and sent together, so that an outage that spreads
// from host to host does not cause one notification for each.
type Cause struct {
	State string        `json:"state"`
	Again bool          `json:"again,omitempty"`
	Code  string        `json:"reason_code,omitempty"`
	Check string        `json:"check,omitempty"`
	Since time.Time     `json:"since"` // time of the notification
	Rows  []fleet.Alert `json:"rows,omitempty"`
}

// deliver sends the rows of one run of fleet-check, or collects them. After an error it is
// called with the same rows again, and does not repeat those that were sent.
//
// What is sent when depends only on the times of the rows, so that a repeat after a crash
// sends the same notifications.
func (d *delivery) deliver(ctx context.Context, rows []fleet.Alert) error {
	if err := d.sendDue(ctx, rows[0].When(), rows); err != nil {
		return err
	}
	var later []Message
	for _, m := range d.messages(rows) {
		if d.cause(m) >= 0 {
			later = append(later, m)
			continue
		}
		if err := d.send(ctx, m); err != nil {
			return err
		}
		d.s.Causes = append(d.s.Causes, Cause{State: m.State, Again: m.Again, Code: m.Code, Check: m.Check, Since: m.At})
	}
	for _, m := range later {
		c := &d.s.Causes[d.cause(m)]
		c.Rows = append(c.Rows, m.Alerts...)
	}
	return nil
}

// sendDue sends the collected rows of causes that are due at a time, or that these rows
// change, and removes causes without new rows.
func (d *delivery) sendDue(ctx context.Context, at time.Time, rows []fleet.Alert) error {
	news := func(a fleet.Alert) bool {
		return slices.ContainsFunc(rows, func(b fleet.Alert) bool { return b.Key() == a.Key() })
	}
	for i := range d.s.Causes {
		c := &d.s.Causes[i]
		c.Rows = slices.DeleteFunc(c.Rows, func(a fleet.Alert) bool { return a.State == fleet.Firing && d.muted(a.Key()) })
		due := c.Since.Add(d.o.Together)
		if len(c.Rows) == 0 || (at.Before(due) && !slices.ContainsFunc(c.Rows, news)) {
			continue
		}
		if d.o.Now.Sub(due) > giveUp {
			d.s.GivenUp += len(c.Rows)
			c.Rows = nil
			continue
		}
		if at.Before(due) {
			due = at
		}
		m := Message{At: due, State: c.State, Again: c.Again, Code: c.Code, Check: c.Check, More: true, Alerts: c.Rows}
		if err := d.send(ctx, m); err != nil {
			return err
		}
		c.Since, c.Rows = due, nil
	}
	d.s.Causes = slices.DeleteFunc(d.s.Causes, func(c Cause) bool { return len(c.Rows) == 0 && !at.Before(c.Since.Add(d.o.Together)) })
	return nil
}

// cause returns the index of a message's cause, or -1 for a new one.
func (d *delivery) cause(m Message) int {
	return slices.IndexFunc(d.s.Causes, func(c Cause) bool { return m.of(c.State, c.Again, c.Code, c.Check) })
}

func (d *delivery) send(ctx context.Context, m Message) error {
	m.finish()
	if err := d.try(ctx, func(ctx context.Context) error { return d.t.Send(ctx, m) }); err != nil {
		return err
	}
	d.markNotified(m)
	return nil
}
