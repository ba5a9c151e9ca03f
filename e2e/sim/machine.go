package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cis490/internal/clock"
	"cis490/internal/disk/faultdisk"
)

// Machine is a computer: a disk, clocks, and a service manager.
type Machine struct {
	w      *World
	name   string
	ip     string
	data   string // path prefix of the data disk
	Clock  Clock
	disk   *faultdisk.Disk
	link   *Link
	naps   chan nap
	asleep atomic.Bool

	dmu  sync.Mutex // guards what follows
	rand *rand.Rand
	ill  Ill
	// spot is a file that cannot be opened, read or written, and why.
	spot    string
	spotErr error
	bare    *faultdisk.Disk // the mount point, while the data disk is not mounted
	locks   map[string]*Proc

	mu       sync.Mutex // guards what follows
	on       bool
	boot     int
	booted   time.Time
	halt     context.CancelFunc
	services []*Service
}

// Service is a unit: a daemon, or with Every a program that a timer starts.
type Service struct {
	Name  string
	Every time.Duration
	First time.Duration // after boot
	Main  func(*Proc) error

	m        *Machine
	proc     *Proc
	active   bool
	stopped  bool // by hand: it is started at once
	held     bool // until the next boot
	restarts uint32
	since    time.Time
}

// Proc is a run of a service.
type Proc struct {
	m    *Machine
	s    *Service
	ctx  context.Context
	end  context.CancelFunc
	fs   procFS
	dead atomic.Bool // killed, or ended

	cmu       sync.Mutex
	conns     []*conn
	listeners []*listener // guarded by the world's lock
}

func newMachine(w *World, name, ip, data string) *Machine {
	m := &Machine{w: w, name: name, ip: ip, data: data, disk: faultdisk.New(), locks: map[string]*Proc{}, naps: make(chan nap), link: &Link{conns: map[*conn]bool{}, kept: w.times(10 * time.Minute)}}
	m.rand = rand.New(rand.NewPCG(w.plan.Seed, uint64(len(name))+uint64(name[len(name)-1])))
	m.disk.SetClock(m.Clock.Now)
	return m
}

// enable gives the machine its services.
func (m *Machine) enable(all ...*Service) {
	for _, s := range all {
		s.m = m
	}
	m.services = all
}

// BootID names the boot in systemd's form.
func (m *Machine) BootID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%024x%08x", len(m.name)*7919+int(m.name[len(m.name)-1]), m.boot)
}

// reading is what the clocks of the process's machine say.
func (p *Proc) reading() clock.Reading {
	boot := p.m.BootID()
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return clock.Reading{Wall: p.m.Clock.Now().UTC().Round(0), Boot: boot, Up: time.Since(p.m.booted)}
}

// Boot starts the machine and its services.
func (m *Machine) Boot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on {
		return
	}
	m.on = true
	m.asleep.Store(false)
	m.boot++
	m.booted = time.Now()
	ctx, halt := context.WithCancel(m.w.ctx)
	m.halt = halt
	for _, s := range m.services {
		s.proc, s.active, s.restarts, s.held, s.stopped = nil, false, 0, false, false
		m.w.wg.Go(func() { s.supervise(ctx) })
	}
}

// Off cuts the power; the disk keeps what survives.
func (m *Machine) Off(left faultdisk.Survive) {
	m.mu.Lock()
	if !m.on {
		m.mu.Unlock()
		return
	}
	m.on = false
	m.halt()
	var running []*Proc
	for _, s := range m.services {
		if s.proc != nil {
			running = append(running, s.proc)
		}
	}
	m.mu.Unlock()
	for _, p := range running {
		p.kill()
	}
	m.disk.Reboot(left)
}

// On tells whether the machine has power.
func (m *Machine) On() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.on }

// Service returns a service by its name.
func (m *Machine) Service(name string) *Service {
	if i := slices.IndexFunc(m.services, func(s *Service) bool { return s.Name == name }); i >= 0 {
		return m.services[i]
	}
	return nil
}

// Kill kills a service's process, if it has one, as an OOM killer does.
func (m *Machine) Kill(name string) {
	m.mu.Lock()
	p := m.Service(name).proc
	m.mu.Unlock()
	if p != nil {
		p.kill()
	}
}

// Restart stops a service in order and starts it anew, by hand.
func (m *Machine) Restart(name string) {
	m.mu.Lock()
	s := m.Service(name)
	p := s.proc
	s.restarts = 0
	if p != nil {
		s.stopped = true
	}
	m.mu.Unlock()
	if p != nil {
		p.end()
	}
}

// Stop stops a service in order, until the next boot.
func (m *Machine) Stop(name string) {
	m.mu.Lock()
	s := m.Service(name)
	s.held = true
	p := s.proc
	m.mu.Unlock()
	if p != nil {
		p.end()
	}
}

// restartAfter is how long a service manager waits before it starts a daemon anew.
const restartAfter = 5 * time.Second

func (s *Service) supervise(ctx context.Context) {
	sleep := func(d time.Duration) bool {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
		return ctx.Err() == nil
	}
	if !sleep(s.First + time.Millisecond) {
		return
	}
	for {
		for s.Every > 0 && s.m.asleep.Load() {
			if !sleep(time.Minute) {
				return
			}
		}
		s.run(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := s.Every
		if wait == 0 {
			wait = restartAfter
			s.m.mu.Lock()
			switch {
			case s.held:
				wait = 1 << 62
			case s.stopped:
				s.stopped, wait = false, time.Millisecond
			default:
				s.restarts++
			}
			s.m.mu.Unlock()
		}
		if !sleep(wait) {
			return
		}
	}
}

// run runs the service once.
func (s *Service) run(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	p := &Proc{m: s.m, s: s}
	p.ctx, p.end = context.WithCancel(ctx)
	p.fs = procFS{p}
	s.m.mu.Lock()
	s.proc, s.active, s.since = p, true, s.m.Clock.Now()
	s.m.mu.Unlock()
	err := s.Main(p)
	if s.Every == 0 && !p.dead.Load() && err != nil {
		s.m.w.trace(s.m.name, "%s ended: %v", s.Name, err)
	}
	p.kill()
	s.m.mu.Lock()
	if s.proc == p { // of another boot, it may be another
		s.proc, s.active = nil, false
	}
	s.m.mu.Unlock()
}

// kill ends a process at once: nothing that it does counts from now on.
func (p *Proc) kill() {
	if p.dead.Swap(true) {
		return
	}
	p.end()
	p.cmu.Lock()
	conns := p.conns
	p.conns = nil
	p.cmu.Unlock()
	for _, c := range conns {
		c.Reset()
	}
	p.m.w.mu.Lock()
	listeners := slices.Clone(p.listeners)
	p.m.w.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
}

// holds makes an end of a connection the process's; false if it is dead.
func (p *Proc) holds(c *conn) bool {
	p.cmu.Lock()
	defer p.cmu.Unlock()
	if p.dead.Load() {
		return false
	}
	if len(p.conns) > 64 { // forget what has ended
		p.conns = slices.DeleteFunc(p.conns, func(c *conn) bool { c.in.mu.Lock(); defer c.in.mu.Unlock(); return c.in.ended })
	}
	p.conns = append(p.conns, c)
	return true
}

// restartDaemons restarts what runs all the time.
func (m *Machine) restartDaemons() {
	for _, s := range m.services {
		if s.Every == 0 {
			m.Restart(s.Name)
		}
	}
}
