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

// past is what a run has read before it judges.
type past struct {
	memory   Memory
	last     Last
	state    State
	rows     time.Time // of the newest row of alerts.jsonl that is known
	queue    []Alert   // rows of earlier runs that are not in alerts.jsonl yet
	facts    *Facts
	silences map[receiver.AlertKey]receiver.Silence
	unread   []error // what could not be read
	unlock   func()
}

// read reads all that a run needs. Only another run, and a user who must not write
// here, are errors; what else is wrong with the data folder is a fact.
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
		broken, p.memory.ReadOnly = err, err != nil
	}
	err := p.recall(o)
	broken = errors.Join(broken, err)
	p.facts, err = Gather(o.Source, o.Now, o.Limits)
	p.facts.Broken = errors.Join(broken, err)
	if p.silences, err = silences.Read(o.Silences); err != nil { // then too much is told rather than too little
		p.unread = append(p.unread, err)
	}
	return p, nil
}

// without is what a run knows that cannot use the data folder at all.
func (p past) without(o Options, why error) past {
	p.memory = Memory{Data: o.Docs, Spare: o.Spare, Lost: true}
	p.facts = &Facts{Now: o.Now, Limits: o.Limits, Unread: true, Lost: true, Broken: why}
	p.unlock = func() {}
	_ = p.recall(o) // reads the spare folder
	return p
}

// recall reads the last run and alerts.jsonl. What that lost, as when it was rotated,
// the last run knows.
func (p *past) recall(o Options) (err error) {
	if p.last, err = readLast(p.memory); err != nil {
		o.Log.Warn("last run is forgotten", "err", err)
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
	if forgot {
		p.state = p.last.state()
	}
	p.state.Last = p.rows
	p.state.past(o.Now, p.last.seen())
	return err
}

// state is what the last run knew to be firing. The row that opens its hour counts as
// missing, unless it waits.
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

// has tells whether the state has taken a row in already: an append that failed may
// have reached the disk.
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

// lease makes sure that one fleet-check at a time works on the data, and that its owner
// owns what it writes. A person who is another user is refused; the service goes on,
// because it has to report a backend that is not its own.
func (o Options) lease() (release func(), err error) {
	held, err := o.Lease(receiver.Checking)
	other, foreign := errors.AsType[*receiver.OwnerError](err)
	switch {
	case errors.Is(err, receiver.ErrLeased):
		err = fault.Exit(fmt.Errorf("another fleet-check is running: %w", err), fault.TempFail)
	case foreign && o.Spare == nil:
		err = fault.Exit(fault.Fix(fmt.Errorf("%s belongs to %s: what this user wrote there would be in the way", other.Path, other.Owner),
			fmt.Sprintf("sudo -u %s cis490 fleet-check   # or only look: cis490 fleet-check --dry-run", other.Owner)), fault.NoPerm)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = held.Close() }, nil // the lease ends with it
}
