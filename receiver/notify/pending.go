package notify

import (
	"slices"
	"time"

	"cis490/receiver/fleet"
)

// pending returns the rows to deliver to the target. A new target gets the rows of this
// hour about open alerts. If the rows cannot be read, it returns the open alerts instead.
func (d *delivery) pending() []fleet.Alert {
	fresh := d.s.Cursor.IsZero()
	if fresh {
		d.s.Cursor = d.o.Now.Truncate(time.Hour).Add(-1)
	}
	open := map[fleet.Key]bool{}
	for _, a := range d.o.Open {
		open[a.Key()] = true
	}
	all, unread := d.rows()
	var rows []fleet.Alert
	for _, a := range all {
		switch {
		case !a.At.After(d.s.Cursor) || a.Symptom == "" || (fresh && !open[a.Key()]):
		case d.o.Now.Sub(a.When()) > giveUp:
			if a.Notify() {
				d.s.GivenUp++
			}
			d.s.Cursor = a.At
		default:
			rows = append(rows, a)
		}
	}
	if unread != nil {
		d.o.Log.Warn("cannot read alerts; sending the open ones", "target", d.t.Name, "err", unread)
		for _, a := range d.o.Open {
			_, known := d.lastNotified(a.Key())
			if !known && !slices.ContainsFunc(rows, func(b fleet.Alert) bool { return b.Key() == a.Key() }) {
				rows = append(rows, a)
			}
		}
	}
	return rows
}

// rows returns the rows of alerts.jsonl since the target's cursor, and those that are not
// in it yet.
func (d *delivery) rows() (all []fleet.Alert, err error) {
	if !d.o.Memory.Lost {
		for a, bad := range d.o.Alerts.Since(d.s.Cursor) {
			if bad != nil {
				err = bad
				break
			}
			all = append(all, a)
		}
	}
	return append(all, d.o.Unwritten...), err
}

// over returns resolved rows for alerts that are open for the target but not any more: they
// became quiet, or their own row is missing, for example because alerts.jsonl was rotated.
// They have the time of the notification, so that a repeat has the same key.
func (d *delivery) over() (rows []fleet.Alert) {
	has := func(all []fleet.Alert, t Notified) bool {
		return slices.ContainsFunc(all, func(a fleet.Alert) bool { return a.Host == t.Host && a.Symptom == t.Symptom })
	}
	open := slices.DeleteFunc(slices.Clone(d.o.Open), func(a fleet.Alert) bool { return a.Quiet && !a.Silenced })
	//off:alarm_Rotated.sent
	for _, t := range d.s.Notified {
		if has(open, t) || slices.ContainsFunc(d.s.Causes, func(c Cause) bool { return has(c.Rows, t) }) {
			continue
		}
		rows = append(rows, fleet.Alert{
			V: 1, At: t.At, Host: t.Host, Symptom: t.Symptom, State: fleet.Resolved, Since: t.Since, Hour: t.At.Truncate(time.Hour),
		})
	}
	return rows
}
