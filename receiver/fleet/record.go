package fleet

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"cis490/receiver"
)

// The bounds of rows that could not be written yet. Open alerts are in the rows of each
// following hour, too.
const (
	maxUnwritten  = 20_000
	keepUnwritten = 24 * time.Hour
)

// syslog sends each row to syslog, before anything is written: a crash in between may
// repeat lines, but does not lose one.
func (o Options) syslog(rows []Alert) error {
	var errs []error
	for _, a := range rows {
		if a.Notify() && o.Syslog != nil {
			errs = append(errs, o.Syslog(a))
		}
	}
	return errors.Join(errs...)
}

// record appends earlier unwritten rows and the new ones to alerts.jsonl, and stores the
// run. Rows that cannot be written are stored with the run, for the next one.
func (o Options) record(p past, next Last, rows []Alert) (Last, error) {
	wait := slices.Concat(p.queue, rows)
	next.Rows = p.rows
	var n int
	var err error
	if !p.memory.Lost && !p.memory.ReadOnly && len(wait) > 0 {
		n, err = o.append(wait)
	}
	if n > 0 {
		next.Rows = wait[n-1].At
	}
	for _, a := range wait[max(n, len(wait)-maxUnwritten):] {
		if o.Now.Sub(a.When()) <= keepUnwritten {
			next.Unwritten = append(next.Unwritten, a)
		}
	}
	b, bad := json.Marshal(next)
	if bad == nil {
		bad = p.memory.Write(receiver.FleetCheckDoc, append(b, '\n'))
	}
	return next, errors.Join(err, bad)
}

// append appends rows to the alerts and returns how many. It writes the rows of one run,
// which have the same time, with one call. Earlier rows keep their time, so that they are
// not notified twice.
func (o Options) append(rows []Alert) (n int, err error) {
	for n < len(rows) && err == nil {
		end := n + 1
		for end < len(rows) && rows[end].At.Equal(rows[n].At) {
			end++
		}
		if err = o.Alerts.Append(rows[n:end]); err == nil {
			n = end
		}
	}
	return n, errors.Join(err, o.Alerts.Close())
}

// ReadLast returns the last run, even while the backend is broken. Without one it returns
// the zero Last.
func ReadLast(b receiver.Backend) (Last, error) {
	return readLast(Memory{Data: b.Docs, Spare: b.Spare})
}

// Ran returns when the last run stored its result; zero without one.
func Ran(b receiver.Backend) (at time.Time) {
	saved := func(docs receiver.Docs, name string) {
		if d, err := docs.Stat(name); err == nil && d.Saved.After(at) {
			at = d.Saved
		}
	}
	saved(b.Docs, receiver.FleetCheckDoc)
	if b.Spare != nil {
		saved(b.Spare, receiver.FleetCheckDoc)
		saved(b.Spare, receiver.FleetCheckDoc+unwritten)
	}
	return at
}

func readLast(m Memory) (Last, error) { return ReadMemory(m, receiver.FleetCheckDoc, (*Last).add) }

// add adds an earlier run that could not be read when the newer one began.
func (l *Last) add(old Last) {
	l.Unwritten = slices.Concat(old.Unwritten, l.Unwritten)
	l.Rows, l.Roster = later(l.Rows, old.Rows), cmp.Or(l.Roster, old.Roster)
	seen := old.seen()
	for i, s := range l.Seen {
		if at := seen[Key{Host: s.Host, Symptom: s.Symptom}]; !at.IsZero() && at.Before(s.Since) {
			l.Seen[i].Since = at
		}
	}
}

func (l Last) seen() map[Key]time.Time {
	m := map[Key]time.Time{}
	for _, s := range l.Seen {
		m[Key{Host: s.Host, Symptom: s.Symptom}] = s.Since
	}
	return m
}
