package sim

import (
	"context"
	"time"
)

// sleepers are faults in which a machine is suspended. A bubble cannot stop one machine's
// time, so only the visible effects are modelled: the link is down, timers start nothing,
// and nothing is recorded.
func sleepers() map[string]Kind {
	return map[string]Kind{"host-sleep": {Often: 3, Most: 14 * time.Hour, start: suspend, end: resume}}
}

// nap is a message of logind: the machine suspends, or has resumed.
type nap struct {
	asleep bool
	done   chan struct{}
}

// inhibited is how long logind waits for inhibitors.
const inhibited = 5 * time.Second

// announce notifies the processes that the machine suspends, or has resumed.
func (m *Machine) announce(asleep bool) {
	n := nap{asleep, make(chan struct{})}
	limit := time.After(inhibited)
	select {
	case m.naps <- n:
	case <-limit:
		return
	}
	select {
	case <-n.done:
	case <-limit:
	}
}

// Sleeps is Sleeps of package machine.
func (p *Proc) Sleeps(ctx context.Context, change func(asleep bool)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-p.m.naps:
			change(n.asleep)
			close(n.done)
		}
	}
}

func suspend(_ *World, m *Machine, _ Fault) {
	m.announce(true)
	m.asleep.Store(true)
	m.link.Set(Hole, 0)
}

func resume(_ *World, m *Machine, _ Fault) {
	m.asleep.Store(false)
	m.link.Set(Up, 0)
	m.announce(false)
}
