package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"cis490/internal/fault"
	"cis490/receiver"
	"cis490/receiver/silences"
)

// past is the input of a run.
type past struct {
	memory   Memory
	last     Last
	state    State
	rows     time.Time // time of the newest known row of alerts.jsonl
	queue    []Alert   // rows of earlier runs that are not in alerts.jsonl yet
	facts    *Facts
	silences map[receiver.AlertKey]receiver.Silence
	unread   []error // of inputs that could not be read
	unlock   func()
}

// read reads the input of a run. It returns an error if another run is in progress, or
// if this user must not write here; other faults of the data folder are facts.
func (o Options) read() (past, error) {
	p := past{memory: Memory{Data: o.Docs, Spare: o.Spare}, unlock: func() {}}
	if gone := o.Present(); errors.Is(gone, receiver.ErrVanished) {
		return p.without(o, gone), nil
	}
	broken := error(nil)
	if !o.DryRun {
		unlock, err := o.lease()
		switch {
		case errors.Is(err, receiver.ErrLeased), fault.CodeOf(err) == fault.NoPerm:
			return p, err
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return p.without(o, err), nil
		case err == nil:
			p.unlock = unlock
			if err = o.Docs.Writable(receiver.FleetCheckDoc); err == nil {
				err = o.Alerts.Healthy()
			}
		}
		//off:alarm_Unwritten
		broken, p.memory.ReadOnly = err, err != nil
	}
	err := p.recall(o)
	broken = errors.Join(broken, err)
	p.facts, err = Gather(o.Source, o.Now, o.Limits)
	p.facts.Broken = errors.Join(broken, err)
	p.silences, err = silences.Now(o.Silences, o.Now, p.facts.past, p.facts.contacts.Receiver.LastJump())
	if err != nil {
		p.unread, p.silences = append(p.unread, err), p.last.silenced(o.Now)
	}
	return p, nil
}

// without returns the input of a run that cannot use the data folder.
func (p past) without(o Options, why error) past {
	p.memory = Memory{Data: o.Docs, Spare: o.Spare, Lost: true}
	p.facts = &Facts{Now: o.Now, Limits: o.Limits, Unread: true, Lost: true, Broken: why}
	p.unlock = func() {}
	_ = p.recall(o) // from the spare folder
	p.silences = p.last.silenced(o.Now)
	return p
}

// silenced returns silences for the alerts that were muted in the last run, for a run that
// cannot read the silences. Otherwise people would be notified of such an alert, but of its
// end only if that is not muted again by then.
func (l Last) silenced(now time.Time) map[receiver.AlertKey]receiver.Silence {
	all := map[receiver.AlertKey]receiver.Silence{}
	for _, a := range l.Open {
		if a.Silenced {
			all[a.Key()] = receiver.Silence{At: now}
		}
	}
	return all
}

// recall reads the last run and alerts.jsonl. If alerts.jsonl has lost rows, for example
// because it was rotated, it takes the state from the last run.
func (p *past) recall(o Options) (err error) {
	if p.last, err = readLast(p.memory); err != nil {
		o.Log.Warn("cannot read the last run, continuing without", "err", err)
		if !o.DryRun {
			p.unread = append(p.unread, p.memory.Begin(receiver.FleetCheckDoc, err))
		}
	}
	p.last.bridge(o.reading(o.Now))
	p.state, err = State{Entries: map[Key]Entry{}}, nil
	if !p.memory.Lost {
		p.state, err = ReadState(o.Alerts)
	}
	if err != nil {
		err = fmt.Errorf("read alerts: %w", err)
	}
	p.rows = later(p.state.Last, p.last.Rows)
	forgot := p.memory.Lost || err != nil || p.state.Last.Before(p.last.Rows)
	for _, a := range p.last.Unwritten {
		switch {
		case forgot:
			p.queue = append(p.queue, a)
		case !p.state.has(a):
			p.queue = append(p.queue, a)
			p.state.add(a)
		}
	}
	//off:alarm_Rotated
	if forgot {
		p.state = p.last.state()
	}
	p.state.Last = p.rows
	p.state.past(o.Now, p.last.seen())
	return err
}

// state returns the state by the last run's document. The opening row of its hour counts
// as missing, unless it is among the unwritten rows.
func (l Last) state() State {
	s, seen := State{Entries: map[Key]Entry{}, hour: l.At.Truncate(time.Hour), more: 1}, l.seen()
	if slices.ContainsFunc(l.Unwritten, func(a Alert) bool { return a.State == opening && a.More == 0 && a.Hour.Equal(s.hour) }) {
		s.more = 0
	}
	for _, a := range l.Open {
		e := Entry{Firing: true, Since: a.Since, Began: seen[a.Key()], Quiet: a.Quiet, fired: true}
		if e.Began.IsZero() {
			e.Began = l.At
		}
		s.Entries[a.Key()] = e
	}
	return s
}

// has reports whether the state includes a row: a failed append may have reached the
// disk.
func (s *State) has(a Alert) bool {
	e := s.Entries[a.Key()]
	switch {
	case !s.hour.Equal(a.Hour):
		return false
	case a.State == opening:
		return s.more <= a.More
	case a.State == Firing:
		return e.fired
	}
	return e.resolved
}

// lease makes sure that only one fleet-check works on the data, as the data's owner. It
// refuses a person who is another user. The service continues, because it has to report
// a backend that it does not own.
func (o Options) lease() (release func(), err error) {
	held, err := o.Lease(receiver.Checking)
	other, foreign := errors.AsType[*receiver.OwnerError](err)
	switch {
	case errors.Is(err, receiver.ErrLeased):
		err = fault.Exit(fmt.Errorf("another fleet-check is running: %w", err), fault.TempFail)
	case foreign && o.Spare == nil:
		err = fault.Exit(fault.Fix(fmt.Errorf("%s belongs to %s: files of another user there would block its service", other.Path, other.Owner),
			fmt.Sprintf("sudo -u %s cis490 fleet-check   # or read only: cis490 fleet-check --dry-run", other.Owner)), fault.NoPerm)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = held.Close() }, nil // the lease ends with it
}
