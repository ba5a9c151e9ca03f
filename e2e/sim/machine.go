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
	root   string // path prefix of everything
	data   string // path prefix of the data disk
	Clock  Clock
	disk   *faultdisk.Disk
	link   *Link
	naps   chan nap
	asleep atomic.Bool

	dmu  sync.Mutex // guards the fields below
	rand *rand.Rand
	ill  Ill
	// spot is a file whose calls fail, and the error.
	spot    string
	spotErr error
	bare    *faultdisk.Disk // the empty mount point, while the data disk is not mounted
	locks   map[string]*Proc

	mu       sync.Mutex // guards the fields below
	on       bool
	boot     int
	booted   time.Time
	halt     context.CancelFunc
	services []*Service
}

// Proc is a run of a service.
type Proc struct {
	m    *Machine
	s    *Service
	ctx  context.Context
	end  context.CancelFunc
	fs   procFS
	dead atomic.Bool // killed, or ended
	ran  bool        // a monitor that completed

	limit    time.Duration // of the watchdog
	watchdog *time.Timer   // guarded by cmu
	hangs    atomic.Bool   // its next access to the data disk blocks
	hungAt   time.Time     // start of the hang

	cmu       sync.Mutex
	conns     []*conn
	listeners []*listener // guarded by the world's lock
}

func newMachine(w *World, name, ip, root, data string) *Machine {
	m := &Machine{
		w: w, name: name, ip: ip, root: root, data: data, disk: faultdisk.New(), locks: map[string]*Proc{}, naps: make(chan nap),
		link: &Link{conns: map[*conn]bool{}, kept: w.times(10 * time.Minute)},
	}
	m.rand = rand.New(rand.NewPCG(w.plan.Seed, uint64(len(name))+uint64(name[len(name)-1])))
	m.disk.SetClock(m.Clock.Now)
	return m
}

// enable sets the machine's services.
func (m *Machine) enable(all ...*Service) {
	for _, s := range all {
		s.m, s.wake = m, make(chan struct{}, 1)
	}
	m.services = all
}

// BootID names the boot in systemd's form.
func (m *Machine) BootID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%024x%08x", len(m.name)*7919+int(m.name[len(m.name)-1]), m.boot)
}

// reading returns the clocks of the process's machine.
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
		s.proc, s.active, s.restarts, s.held, s.stopped, s.armed, s.stuck = nil, false, 0, false, false, false, false
	}
	m.reload()
	for _, s := range m.services {
		s.armed = s.enabled()
		select {
		case <-s.wake: // of the boot before
		default:
		}
		m.w.wg.Go(func() { s.supervise(ctx) })
	}
}

// Off cuts the power. The disk keeps durable data.
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

// On reports whether the machine has power.
func (m *Machine) On() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.on }

// Service returns a service by its name.
func (m *Machine) Service(name string) *Service {
	if i := slices.IndexFunc(m.services, func(s *Service) bool { return s.Name == name }); i >= 0 {
		return m.services[i]
	}
	return nil
}

// Kill kills a service's process, if there is one, as the OOM killer does.
func (m *Machine) Kill(name string) {
	m.mu.Lock()
	p := m.Service(name).proc
	m.mu.Unlock()
	if p != nil {
		p.kill()
	}
}

// Restart restarts a service, as `systemctl restart` does.
func (m *Machine) Restart(name string) {
	m.mu.Lock()
	s := m.Service(name)
	p := s.proc
	s.restarts, s.held, s.stopped = 0, false, p != nil
	m.mu.Unlock()
	if p != nil {
		p.end()
		return
	}
	s.start()
}

// Stop stops a service until it is started or the next boot.
func (m *Machine) Stop(name string) {
	m.mu.Lock()
	s := m.Service(name)
	s.held, s.armed = true, false
	p := s.proc
	m.mu.Unlock()
	if p != nil {
		p.end()
	}
}

// kill ends a process at once: all its later calls fail.
func (p *Proc) kill() {
	if p.dead.Swap(true) {
		return
	}
	p.end()
	p.cmu.Lock()
	if p.watchdog != nil {
		p.watchdog.Stop()
	}
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

// holds adds an end of a connection to the process. It reports false if the process is dead.
func (p *Proc) holds(c *conn) bool {
	p.cmu.Lock()
	defer p.cmu.Unlock()
	if p.dead.Load() {
		return false
	}
	if len(p.conns) > 64 { // remove ended connections
		p.conns = slices.DeleteFunc(p.conns, func(c *conn) bool { c.in.mu.Lock(); defer c.in.mu.Unlock(); return c.in.ended })
	}
	p.conns = append(p.conns, c)
	return true
}

// restartDaemons restarts what runs all the time.
func (m *Machine) restartDaemons() {
	for _, s := range m.services {
		if !s.timed() {
			m.Restart(s.Name)
		}
	}
}
