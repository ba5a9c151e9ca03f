// Package notify sends alerts to people and programs: shoutrrr URLs (mail, ntfy, chat…), a
// webhook, an Alertmanager, and a heartbeat URL that shows that monitoring runs.
//
// A notifier is a target, in targets.go. alerts.jsonl is the queue. Each target has a
// cursor, which advances only after the target accepted the rows before it. A crash may
// therefore repeat a notification, with the same key, but loses none. Rows that a target
// refuses for a day are dropped and counted. A slow target does not delay the others.
// Targets are identified by name in messages and logs, because a URL may contain a secret.
//
//storage:files reads secrets in files that the config names
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/receiver"
	"cis490/receiver/fleet"
)

// Limits of a delivery.
const (
	attempts = 3
	deadline = time.Minute // for all of a target's notifications in one run
	giveUp   = 24 * time.Hour
	// stay is after how long an Alertmanager resolves an alert that is not sent again.
	stay = 15 * time.Minute
)

// Target receives notifications. It has either Send or Sync.
type Target struct {
	Name string // contains no secret
	// Send sends one notification. Its error must not contain a secret.
	Send func(ctx context.Context, m Message) error
	// Sync is for targets that track alerts themselves. It sends all open alerts, and
	// those that were resolved since the last successful call.
	Sync func(ctx context.Context, now time.Time, open, over []fleet.Alert) error
	// Always calls Sync even without alerts.
	Always bool
	// Unknown is set for a line of urls_file that names no known service; Send fails.
	Unknown bool
	// Last calls the target after all others, and only if those and syslog succeeded.
	Last bool
}

// Options describe a delivery.
type Options struct {
	Memory      fleet.Memory
	Alerts      receiver.Log[fleet.Alert]
	Now         time.Time
	Open        []fleet.Alert // open alerts of the run
	Unwritten   []fleet.Alert // rows that alerts.jsonl does not have yet
	SyslogErr   error         // why rows could not be sent to syslog
	RepeatAfter time.Duration // after which an open alert is sent again
	Together    time.Duration // in which alerts with the same cause are collected
	Wait        func(ctx context.Context, attempt int) error
	Log         *slog.Logger
}

// errUndelivered keeps a Last target from being called.
var errUndelivered = errors.New("not called, because alerts could not be delivered")

// State is the delivery state of a target.
type State struct {
	Cursor   time.Time  `json:"cursor,omitzero"` // rows up to this time were sent
	Success  time.Time  `json:"last_success,omitzero"`
	Failing  time.Time  `json:"failing_since,omitzero"`
	Err      string     `json:"err,omitempty"`
	GivenUp  int        `json:"given_up,omitempty"` // rows that were dropped
	Notified []Notified `json:"told,omitempty"`     // alerts that are open for the target
	Causes   []Cause    `json:"causes,omitempty"`   // of recent notifications
	// MissingSince is when the target was missing in the config first. Its state is
	// stored for a while, for example while urls_file cannot be read, so that it then
	// receives what it missed.
	MissingSince time.Time `json:"missing_since,omitzero"`
}

// Notified is an alert that was sent to a target.
type Notified struct {
	Host    string    `json:"host"`
	Symptom string    `json:"symptom"`
	Code    string    `json:"reason_code,omitempty"`
	Check   string    `json:"check,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	At      time.Time `json:"at"`
}

// Deliver sends each target its pending alerts and stores the states, which it returns by
// target. Failures of targets are in the states; the error is about storing them.
func Deliver(ctx context.Context, o Options, targets []Target) (map[string]State, error) {
	states, err := read(o.Memory)
	if err != nil {
		o.Log.Warn("cannot read what was notified; notifications may repeat", "err", err)
		if err := o.Memory.Begin(receiver.NotifyDoc, err); err != nil {
			o.Log.Warn("cannot keep what was notified", "err", err)
		}
	}
	past(states, o.Now.UTC())
	now := map[string]State{}
	first := slices.DeleteFunc(slices.Clone(targets), func(t Target) bool { return t.Last })
	undelivered := errors.Join(o.SyslogErr, o.each(ctx, first, states, now)) != nil
	for _, t := range targets {
		if !t.Last {
			continue
		}
		if undelivered {
			t.Sync = func(context.Context, time.Time, []fleet.Alert, []fleet.Alert) error { return errUndelivered }
		}
		_ = o.each(ctx, []Target{t}, states, now) // its state has the error
	}
	kept := maps.Clone(now)
	for name, s := range states {
		if s.MissingSince.IsZero() {
			s.MissingSince = o.Now.UTC()
		}
		if _, there := now[name]; !there && o.Now.Sub(s.MissingSince) <= giveUp {
			kept[name] = s
		}
	}
	b, err := json.Marshal(kept)
	if err != nil {
		return now, fmt.Errorf("store what was notified: %w", err)
	}
	return now, o.Memory.Write(receiver.NotifyDoc, append(b, '\n'))
}

// each delivers to targets in parallel and adds their states to now. It returns their
// joined errors.
func (o Options) each(ctx context.Context, targets []Target, states, now map[string]State) error {
	next, failed := make([]State, len(targets)), make([]error, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, deadline)
			defer cancel()
			d := delivery{o: o, t: t, s: states[t.Name]}
			d.s.MissingSince = time.Time{}
			failed[i] = d.run(ctx)
			d.done(failed[i])
			next[i] = d.s
		})
	}
	wg.Wait()
	for i, t := range targets {
		now[t.Name] = next[i]
	}
	return errors.Join(failed...)
}

// Read returns the state of each target, by name.
func Read(docs receiver.Docs) (map[string]State, error) {
	return read(fleet.Memory{Data: docs})
}

func read(m fleet.Memory) (map[string]State, error) {
	all, err := fleet.ReadMemory(m, receiver.NotifyDoc, add)
	if all == nil {
		all = map[string]State{}
	}
	return all, err
}

// add adds earlier states that could not be read when the newer ones began, so that people
// are notified of the end of what they were notified of.
func add(all *map[string]State, older map[string]State) {
	if *all == nil {
		*all = map[string]State{}
	}
	for name, old := range older {
		s, ok := (*all)[name]
		if !ok {
			s = old
		}
		for _, t := range old.Notified {
			if !slices.ContainsFunc(s.Notified, func(n Notified) bool { return n.Host == t.Host && n.Symptom == t.Symptom }) {
				s.Notified = append(s.Notified, t)
			}
		}
		(*all)[name] = s
	}
}

// past replaces times in the future, from a wrong clock, by now, so that they delay
// nothing. A cursor is a position among the rows, and stays.
func past(states map[string]State, now time.Time) {
	for name, s := range states {
		times := []*time.Time{&s.Success, &s.Failing, &s.MissingSince}
		for i := range s.Notified {
			times = append(times, &s.Notified[i].At)
		}
		for i := range s.Causes {
			times = append(times, &s.Causes[i].Since)
		}
		for _, t := range times {
			if t.After(now) {
				*t = now
			}
		}
		states[name] = s
	}
}

// delivery is the delivery to one target in one run.
type delivery struct {
	o Options
	t Target
	s State
}

func (d *delivery) run(ctx context.Context) error {
	if d.t.Sync != nil {
		return d.sync(ctx)
	}
	rows := d.pending()
	for len(rows) > 0 {
		n := 1 // the rows of one run of fleet-check have the same time
		for n < len(rows) && rows[n].At.Equal(rows[0].At) {
			n++
		}
		if err := d.deliver(ctx, rows[:n]); err != nil {
			return err
		}
		d.s.Cursor, rows = rows[0].At, rows[n:]
	}
	if over := d.over(); len(over) > 0 {
		if err := d.deliver(ctx, over); err != nil {
			return err
		}
	}
	return d.sendDue(ctx, d.o.Now, nil)
}

func (d *delivery) sync(ctx context.Context) error {
	var open, over []fleet.Alert
	there := map[fleet.Key]bool{}
	var notified []Notified
	for _, a := range d.o.Open {
		if a.Notify() {
			open = append(open, a)
			there[a.Key()] = true
			notified = append(notified, Notified{a.Host, a.Symptom, a.Code, a.Check, a.Since, d.o.Now})
		}
	}
	for _, x := range d.s.Notified {
		if !there[fleet.Key{Host: x.Host, Symptom: x.Symptom}] {
			over = append(over, fleet.Alert{Host: x.Host, Symptom: x.Symptom, Code: x.Code, Since: x.Since})
		}
	}
	if len(open)+len(over) == 0 && !d.t.Always && !d.s.Success.IsZero() && d.s.Failing.IsZero() {
		d.s.Notified = nil
		return nil
	}
	err := d.try(ctx, func(ctx context.Context) error { return d.t.Sync(ctx, d.o.Now, open, over) })
	if err == nil {
		d.s.Notified = notified
	}
	return err
}

// try calls send up to attempts times.
func (d *delivery) try(ctx context.Context, send func(context.Context) error) error {
	for i := 1; ; i++ {
		err := send(ctx)
		if err == nil {
			d.s.Success, d.s.Failing, d.s.Err = d.o.Now.UTC(), time.Time{}, ""
		}
		if err == nil || i == attempts || errors.Is(err, errUndelivered) || ctx.Err() != nil {
			return err
		}
		if wait := d.o.Wait(ctx, i); wait != nil {
			return err
		}
	}
}

// done records why a delivery failed.
func (d *delivery) done(err error) {
	if err == nil {
		return
	}
	d.s.Err = check.Sanitize(err.Error(), 300)
	if d.s.Failing.IsZero() {
		d.s.Failing = d.o.Now.UTC()
	}
	d.o.Log.Warn("cannot deliver alerts; the next run tries again", "target", d.t.Name, "err", d.s.Err)
}
