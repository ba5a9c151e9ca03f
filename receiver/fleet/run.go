package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/silences"
)

// Last is the document receiver.FleetCheckDoc: the result of the last run, and what the
// next run needs. Deleting it loses nothing that matters.
type Last struct {
	At     time.Time `json:"at"`
	Hosts  int       `json:"hosts"`
	Open   []Alert   `json:"open"`
	Errors []string  `json:"errors,omitempty"` // facts that could not be read
	Seen   []Sight   `json:"seen,omitempty"`
	// Rows is the time of the newest row of alerts.jsonl. Unwritten are rows that could
	// not be appended to it yet.
	Rows      time.Time             `json:"rows,omitzero"`
	Roster    int                   `json:"roster,omitempty"` // number of hosts in the roster
	Unwritten []Alert               `json:"unwritten,omitempty"`
	Growth    map[ident.Host]Growth `json:"growth,omitempty"`
	Clock     clock.Line            `json:"clock,omitzero"` // the clock of its times
}

// Sight is when a finding was first seen, whether it counts or not.
type Sight struct {
	Host    string    `json:"host"`
	Symptom string    `json:"symptom"`
	Since   time.Time `json:"since"`
}

// Options describe a run.
type Options struct {
	Source
	Limits   Limits
	Now      time.Time
	Known    func(id string) (check.Check, bool) // the registry of lab hosts and receiver
	Receiver []check.Row                         // the receiver's own checks; nil: not judged
	DryRun   bool                                // do not write or send anything
	// Spare stores what cannot be written to the backend; only the service has one.
	Spare    receiver.Docs
	Patience time.Duration     // timeout for reading from the disk, and for writing; 0: none
	Syslog   func(Alert) error // syslog; called before the row is written
	Log      *slog.Logger
}

// Result is the result of a run.
type Result struct {
	Last
	Rows      []Alert // written rows; with DryRun, the rows it would write
	Memory    Memory  // for notify, like Alerts
	Alerts    receiver.Log[Alert]
	SyslogErr error // why rows could not be sent to syslog
}

// Failed returns the error that fails the unit of fleet-check. Open alerts are results of
// the run, not its failure.
func (r Result) Failed() error {
	//off:08_SickHostRedMonitor
	return r.SyslogErr
}

// Run gathers facts, judges them, sends rows to syslog and writes them, once. If it
// returns an error with a non-zero Result, the alerts are right but could not be written
// or sent: callers must still deliver them.
func Run(o Options) (Result, error) {
	o.Now = o.Now.UTC()
	p, err := within(o.Patience, o.read, func(p past) { p.unlock() })
	if errors.Is(err, errStuck) {
		p, err = past{}.without(o, fmt.Errorf("%s: %w", o.Name, err)), nil
	}
	if err != nil {
		return Result{}, err
	}
	defer p.unlock()
	//off:clock_FutureRun
	facts, state := p.facts, p.state
	next := Last{At: o.Now, Hosts: len(facts.Hosts), Roster: p.last.Roster, Clock: p.last.Clock}
	if o.Roster != nil {
		next.Roster = facts.checkRoster(p.last.Roster)
	}
	for _, err := range append([]error{facts.Broken}, p.unread...) {
		if err != nil {
			next.Errors = append(next.Errors, check.Sanitize(err.Error(), 500))
			o.Log.Warn("fleet-check cannot read or write all of its data", "err", err)
		}
	}
	facts.Receiver, facts.Known = o.Receiver, o.Known
	facts.Held, facts.Seen = state.Entries, p.last.seen()
	next.Growth = facts.grow(p.last.Growth)
	found, seen := Judge(facts)
	found = append(found, facts.carriedOver(found, p.last.Open)...)
	for k, since := range seen {
		next.Seen = append(next.Seen, Sight{k.Host, k.Symptom, since})
	}
	next.Open = []Alert{}
	for i, x := range found {
		found[i].Silenced = p.silences[x.Key()].Covers(state.Entries[x.Key()].firstSeen(seen[x.Key()]), o.Now)
		next.Open = append(next.Open, alertOf(found[i], o.Now))
	}
	r := Result{Last: next, Rows: state.Next(o.Now, found), Memory: p.memory, Alerts: o.Alerts}
	for i, a := range r.Rows {
		if a.State == Resolved {
			e := Entry{Firing: true, Began: state.Entries[a.Key()].Began} // until this row
			r.Rows[i].Silenced = p.silences[a.Key()].Covers(e.firstSeen(facts.Seen[a.Key()]), o.Now)
		}
	}
	if o.DryRun {
		return r, nil
	}
	r.SyslogErr = o.syslog(r.Rows)
	kept, err := within(o.Patience, func() (Last, error) { return o.record(p, next, slices.Clone(r.Rows)) }, func(Last) {})
	if errors.Is(err, errStuck) {
		r.Memory.Lost = true
		kept, _ = o.record(past{memory: r.Memory, rows: p.rows, queue: p.queue}, next, slices.Clone(r.Rows))
	}
	r.Last = kept
	if err != nil && facts.Broken != nil { // the alert data-broken reports it
		o.Log.Warn("cannot write rows, the next run tries again", "count", len(kept.Unwritten), "err", err)
		err = nil
	}
	return r, errors.Join(r.SyslogErr, err)
}

// grow updates when each outbox was last at its smallest.
func (f *Facts) grow(before map[ident.Host]Growth) map[ident.Host]Growth {
	now := map[ident.Host]Growth{}
	if f.Unread {
		maps.Copy(now, before)
	}
	for name, h := range f.Hosts {
		if h.Contact.Waiting == 0 || !f.hasFreshPing(name, BacklogGrowing, h.Contact.At) {
			continue
		}
		g, ok := before[name]
		if !ok || h.Contact.Waiting < g.Waiting {
			g = Growth{f.Now, h.Contact.Waiting}
		}
		h.Growth, now[name] = g, g
	}
	return now
}

// firstSeen returns when the condition was first observed: at seen, if its row was
// delayed to the next hour, otherwise with its first row.
func (e Entry) firstSeen(seen time.Time) time.Time {
	if e.Firing && (seen.IsZero() || e.Began.Before(seen)) {
		return e.Began
	}
	return seen
}

// Began returns when each open alert began, by its rows or by the last run.
func Began(b receiver.Backend) (map[Key]time.Time, error) {
	state, err := ReadState(b.Alerts)
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	last, err := ReadLast(b)
	if err != nil {
		last = Last{} // the rows have nearly everything
	}
	open, seen := map[Key]time.Time{}, last.seen()
	for k, e := range state.Entries {
		if e.Firing {
			open[k] = e.firstSeen(seen[k])
		}
	}
	for _, a := range last.Open {
		if _, ok := open[a.Key()]; !ok && !seen[a.Key()].IsZero() {
			open[a.Key()] = seen[a.Key()]
		}
	}
	return open, nil
}

// ActiveSilences returns the silences in force, by alert.
func ActiveSilences(b receiver.Backend, now time.Time) (map[Key]receiver.Silence, error) {
	all, err := silences.Read(b.Silences)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	open, err := Began(b)
	if err != nil {
		return nil, err
	}
	hold := map[Key]receiver.Silence{}
	for k, s := range all {
		began, ok := open[k]
		if s.Covers(began, now) && (ok || !s.Until.IsZero()) {
			hold[k] = s
		}
	}
	return hold, nil
}

// ReadOpen returns the last run with the present silences. If only the silences cannot
// be read, it returns the run with the error.
func ReadOpen(b receiver.Backend, now time.Time) (Last, error) {
	last, err := ReadLast(b)
	if err != nil {
		return last, err
	}
	active, err := ActiveSilences(b, now)
	for i, a := range last.Open {
		_, last.Open[i].Silenced = active[a.Key()]
	}
	return last, err
}
