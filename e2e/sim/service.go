package sim

import (
	"context"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"cis490/internal/fault"
)

// Service is a unit: a daemon, or a program started by a timer.
type Service struct {
	Name  string        // in a plan and a trace
	Unit  string        // its file's name without ".service"
	First time.Duration // of a daemon: after boot
	Main  func(*Proc) error

	m    *Machine
	wake chan struct{} // starts it now

	unit     unit // as it was read last; guarded by the machine, like what follows
	proc     *Proc
	active   bool
	armed    bool // it was started, or its timer was
	rearm    bool // its timer was started just now
	stuck    bool // its timer has no next run, until it is started again
	stopped  bool // by a person: it is started at once
	held     bool // stopped until it is started, or the next boot
	restarts uint32
	since    time.Time // of the bubble
	program  fs.FileInfo
}

// never is longer than any run.
const never = 1 << 62

func (s *Service) supervise(ctx context.Context) {
	wait := s.first()
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-s.wake:
		}
		t.Stop()
		switch {
		case ctx.Err() != nil:
			return
		case !s.mayRun():
			wait = never
			continue
		case s.m.asleep.Load() && s.timed():
			wait = time.Minute
			continue
		case s.rearmed():
			wait = s.first()
			continue
		}
		wait = s.next(s.run(ctx))
	}
}

// rearmed reports, once, whether its timer was started.
func (s *Service) rearmed() bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	yes := s.rearm
	s.rearm = false
	return yes
}

func (s *Service) timed() bool { s.m.mu.Lock(); defer s.m.mu.Unlock(); return s.unit.every > 0 }

// mayRun reports whether the service has a unit and is not stopped.
func (s *Service) mayRun() bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return !s.held && !s.stuck && s.unit.text != ""
}

// first is the time until the first start of a unit.
func (s *Service) first() time.Duration {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	switch {
	case !s.armed:
		return never
	case s.unit.every > 0:
		return max(0, s.unit.boot+s.m.random(s.unit.spread)-time.Since(s.m.booted))
	}
	return s.First + time.Millisecond
}

// next is the time from the end of a run to the next start.
func (s *Service) next(e ending) time.Duration {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	u, code := s.unit, strconv.Itoa(e.code)
	failed := e.killed || e.code != 0 && !slices.Contains(u.success, code)
	switch {
	case s.stopped:
		s.stopped = false
		return time.Millisecond
	case s.held:
		return never
	case u.restart == "on-failure" && failed && !slices.Contains(u.prevent, code):
		s.restarts++
		return s.m.w.times(u.pause)
	}
	if failed {
		for _, name := range u.onFailure {
			if other := s.m.unitNamed(name); other != nil {
				other.start()
			}
		}
	}
	if u.every == 0 || u.remains && !failed {
		return never
	}
	return s.m.w.timer(u.every) + s.m.random(u.spread)
}

// ending is the result of a run.
type ending struct {
	code   int
	killed bool
}

// run runs the service once.
func (s *Service) run(ctx context.Context) (e ending) {
	p := &Proc{m: s.m, s: s}
	p.ctx, p.end = context.WithCancel(ctx)
	p.fs = procFS{p}
	program, _ := p.fs.Stat(s.m.program())
	s.m.mu.Lock()
	s.proc, s.active, s.since, s.program = p, true, time.Now(), program
	p.limit = s.m.w.times(s.unit.watchdog)
	success := s.unit.success
	s.m.mu.Unlock()
	err := s.Main(p)
	e = ending{fault.CodeOf(err), p.dead.Load()}
	if err != nil && !e.killed {
		s.m.w.trace(s.m.name, "%s ended: %v", s.Name, err)
	}
	if p.ran && e.code != 0 && !e.killed && !slices.Contains(success, strconv.Itoa(e.code)) {
		s.m.w.book.breaks("a completed monitor succeeds", s.Name, "%s of %s did its work, and failed: %v", s.Unit, s.m.name, err)
	}
	p.kill()
	s.m.mu.Lock()
	if s.proc == p { // after a boot it may be another process
		s.proc, s.active = nil, false
	}
	s.m.mu.Unlock()
	return e
}

// start starts the service now, unless it runs.
func (s *Service) start() {
	select {
	case s.wake <- struct{}{}:
	default: // a start is pending
	}
}

// Notify is sd_notify(3).
func (p *Proc) Notify(state string) {
	switch state {
	case "READY=1", "WATCHDOG=1":
		p.cmu.Lock()
		defer p.cmu.Unlock()
		switch {
		case p.limit == 0 || p.dead.Load():
		case p.watchdog == nil:
			p.watchdog = time.AfterFunc(p.limit, p.hung)
		default:
			p.watchdog.Reset(p.limit)
		}
	case "WATCHDOG=trigger":
		p.hung()
	}
}

// hung kills a process that does not ping its watchdog.
func (p *Proc) hung() {
	if p.dead.Load() {
		return
	}
	p.m.w.trace(p.m.name, "the watchdog kills %s", p.s.Name)
	p.m.w.watchHung(p)
	p.kill()
}
