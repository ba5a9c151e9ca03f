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

// Last is the document receiver.FleetCheckDoc, which can be thrown away: when fleet-check last ran, what was open
// then, and what the next run has to remember.
type Last struct {
	At     time.Time `json:"at"`
	Hosts  int       `json:"hosts"`
	Open   []Alert   `json:"open"`
	Errors []string  `json:"errors,omitempty"` // facts that could not be read
	Seen   []Sight   `json:"seen,omitempty"`
	// Rows is the time of the newest row of alerts.jsonl, and Unwritten are the rows
	// that could not be appended to it yet.
	Rows      time.Time             `json:"rows,omitzero"`
	Roster    int                   `json:"roster,omitempty"` // hosts that the roster had
	Unwritten []Alert               `json:"unwritten,omitempty"`
	Growth    map[ident.Host]Growth `json:"growth,omitempty"`
	Clock     clock.Line            `json:"clock,omitzero"` // how the times in it lie
}

// Sight is since when a finding has been there, counted or not.
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
	DryRun   bool                                // write and tell nothing
	// Spare stores what cannot be written to the backend; only the service has one.
	Spare    receiver.Docs
	Patience time.Duration     // how long the disk may take to read, and to write; 0: for ever
	Syslog   func(Alert) error // syslog; called before the row is written
	Log      *slog.Logger
}

// Result is what a run found and wrote.
type Result struct {
	Last
	Rows      []Alert // written, or with DryRun those that would be
	Memory    Memory  // for the delivery, as are the Alerts
	Alerts    receiver.Log[Alert]
	SyslogErr error // why syslog could not be told
}

// Run gathers, judges, tells and writes, once. A result that was judged is to be
// delivered also beside an error: that is about what could not be written or said.
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
	if err != nil && facts.Broken != nil { // which was told
		o.Log.Warn("rows of this run wait for the next one", "count", len(kept.Unwritten), "err", err)
		err = nil
	}
	return r, errors.Join(r.SyslogErr, err)
}

// grow carries on since when each outbox has not been smaller.
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

// began is when an alert began that was first found at a time: then, where its row
// had to wait for the next hour, and at the latest with its first row.
func (e Entry) firstSeen(seen time.Time) time.Time {
	if e.Firing && (seen.IsZero() || e.Began.Before(seen)) {
		return e.Began
	}
	return seen
}

// Began returns when each alert began that is open, by its rows or by the last run.
func Began(b receiver.Backend) (map[Key]time.Time, error) {
	state, err := ReadState(b.Alerts)
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	last, err := ReadLast(b)
	if err != nil {
		last = Last{} // it can be thrown away: the rows know nearly all
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

// ActiveSilences returns the silences that hold now, by the alert that they cover.
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

// ReadOpen returns the last run with the silences of now. If only the silences cannot be
// read, it returns the run with the error.
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
