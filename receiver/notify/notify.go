// Package notify tells people and programs of alerts: shoutrrr URLs (mail, ntfy,
// chat…), a webhook, an Alertmanager, and a heartbeat that says that someone is
// watching at all.
//
// alerts.jsonl is the queue: each target has a place in it, which moves on only
// after the target took what lies before it. So a crash at any point repeats a
// notification and loses none, and a repeat carries the same key. What a target
// refuses for a day is given up, and counted. Targets do not wait for each other.
// The package refuses to show a URL, as it may be a secret: targets have names.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	// stay is how long an Alertmanager keeps an alert that is not told again.
	stay = 15 * time.Minute
)

// Target is someone to tell.
type Target struct {
	Name string // for people, without secrets
	// Send tells one notification. Its error must hold no secret.
	Send func(ctx context.Context, m Message) error
	// Sync is for targets that keep alerts themselves: it tells all that are
	// open, and those that are over since the last time it worked. Send is nil.
	Sync func(ctx context.Context, now time.Time, open, over []fleet.Alert) error
	// Always calls Sync also where there is nothing to tell.
	Always bool
	// Last waits for all other targets, and is left out if one of them, or syslog,
	// could not be told.
	Last bool
}

// Options describe a delivery.
type Options struct {
	Memory      fleet.Memory
	Alerts      receiver.Log[fleet.Alert]
	Now         time.Time
	Open        []fleet.Alert // what the run found
	Unwritten   []fleet.Alert // rows that alerts.jsonl does not have yet
	SyslogErr   error         // why syslog could not be told; nil: it was
	RepeatAfter time.Duration // a fault that lasts is told again after this
	Together    time.Duration // what follows for the same cause within this is one notification
	Wait        func(ctx context.Context, attempt int) error
	Log         *slog.Logger
}

// errUndelivered keeps a Last target from being called.
var errUndelivered = errors.New("not called, because alerts could not be delivered")

// State is what is known of a target.
type State struct {
	Cursor   time.Time  `json:"cursor,omitzero"` // rows up to this time were told
	Success  time.Time  `json:"last_success,omitzero"`
	Failing  time.Time  `json:"failing_since,omitzero"`
	Err      string     `json:"err,omitempty"`
	GivenUp  int        `json:"given_up,omitempty"` // rows that were never told
	Notified []Notified `json:"told,omitempty"`     // what it believes to be open
	Causes   []Cause    `json:"causes,omitempty"`   // that were told of lately
	// Missing is since when nothing names the target. It may be back soon, as when
	// the file of URLs cannot be read for a moment, and is then owed what it missed.
	MissingSince time.Time `json:"missing_since,omitzero"`
}

// Notified is an alert that a target was told of.
type Notified struct {
	Host    string    `json:"host"`
	Symptom string    `json:"symptom"`
	Code    string    `json:"reason_code,omitempty"`
	Check   string    `json:"check,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	At      time.Time `json:"at"`
}

// Deliver tells each target what it was not told yet, and remembers how that
// went. Failures are in the states; an error is that of the file.
func Deliver(ctx context.Context, o Options, targets []Target) (map[string]State, error) {
	states, err := read(o.Memory)
	if err != nil {
		o.Log.Warn("what was told is forgotten", "err", err)
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
		return now, fmt.Errorf("remember what was told: %w", err)
	}
	return now, o.Memory.Write(receiver.NotifyDoc, append(b, '\n'))
}

// each tells some targets side by side, and notes how that went. The error is that of
// those that could not be told.
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

// Read returns what is remembered of each target, by name.
func Read(docs receiver.Docs) (map[string]State, error) {
	return read(fleet.Memory{Data: docs})
}

func read(m fleet.Memory) (map[string]State, error) {
	all := map[string]State{}
	b, err := m.Read(receiver.NotifyDoc, 64<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return map[string]State{}, fmt.Errorf("read %s: %w", receiver.NotifyDoc, err)
	}
	return all, nil
}

// past keeps what was noted by a clock that was ahead from holding anything up: it is of
// now at the latest. A cursor is a place among the rows, and stays.
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

// delivery is what one target gets in one run.
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
		n := 1 // the rows of one run of fleet-check have one time
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
	var told []Notified
	for _, a := range d.o.Open {
		if a.Notify() {
			open = append(open, a)
			there[a.Key()] = true
			told = append(told, Notified{a.Host, a.Symptom, a.Code, a.Check, a.Since, d.o.Now})
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
		d.s.Notified = told
	}
	return err
}

// try does something a few times.
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

// done remembers why a delivery failed.
func (d *delivery) done(err error) {
	if err == nil {
		return
	}
	d.s.Err = check.Sanitize(err.Error(), 300)
	if d.s.Failing.IsZero() {
		d.s.Failing = d.o.Now.UTC()
	}
	d.o.Log.Warn("alerts are not delivered; the next run tries again", "target", d.t.Name, "err", d.s.Err)
}
