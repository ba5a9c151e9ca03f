package sim

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/wire"
	"cis490/receiver/store"
)

// A state is a state of a host, or of the receiver, that a fault can strike.
type state struct {
	name string
	// by are the kinds that lead to it. A fault can wait for such a state; others pass too
	// quickly, or need no fault.
	by       []string
	host     func(w *World, h *Host) bool
	receiver func(w *World) bool
}

// states are all states.
func states() []state {
	releases := []string{"release", "release-zip", "release-crash"}
	alerting := []string{"hole", "refuse", "portal", "host-idle", "gate-wrong"}
	return []state{
		{name: "off", by: []string{"host-power", "host-leaves"}, host: func(_ *World, h *Host) bool { return !h.On() }},
		{name: "rx off", by: []string{"rx-power"}, receiver: func(w *World) bool { return !w.rx.On() }},
		{name: "enrolling", by: []string{"ca-away"}, host: func(_ *World, h *Host) bool { return !h.certified() }},
		{name: "in trial", by: releases, host: func(_ *World, h *Host) bool { return h.onTrial() }},
		{name: "crashed", by: []string{"release-crash"}, host: func(_ *World, h *Host) bool { return h.crashed() }},
		{name: "updated", by: releases, host: func(_ *World, h *Host) bool { return h.updated() }},
		{name: "rolling out", by: releases, receiver: func(w *World) bool { return w.recv.rolls() }},
		{name: "unanswered", by: []string{"answer-dies"}, host: (*World).unanswered},
		{name: "alert open", by: alerting, host: func(w *World, h *Host) bool { return w.book.firing(h.name) }},
		// Its cause ended, and fleet-check did not run since.
		{name: "resolving", by: alerting, host: func(w *World, h *Host) bool { return w.book.firing(h.name) && !w.ails(h) }},
		{name: "clock wrong", by: []string{"host-clock"}, host: func(_ *World, h *Host) bool { return h.Clock.Off() != 0 }},
		{name: "rx clock", by: []string{"rx-clock", "rx-nobattery"}, receiver: func(w *World) bool { return w.rx.Clock.Off() != 0 }},
		{name: "renewing", host: func(_ *World, h *Host) bool { return h.Service("cert-fetch").running() }},
		{name: "uploading", host: func(_ *World, h *Host) bool { return len(h.names("outbox")) > 0 }},
		{name: "packing", host: func(_ *World, h *Host) bool { return len(h.names("episodes")) > 0 }},
		{name: "restarting", receiver: func(w *World) bool { return w.rx.On() && !w.rx.Service("serve").running() }},
	}
}

// States returns the names of all states. A fault strikes an idle machine, or one in at least
// one of the others.
func States() []string {
	all := []string{"idle", "ill already"}
	for _, s := range states() {
		all = append(all, s.name)
	}
	return all
}

// stateNamed returns a state.
func stateNamed(name string) state {
	all := states()
	return all[slices.IndexFunc(all, func(s state) bool { return s.name == name })]
}

// has reports whether a fault of a machine strikes the state. One of the receiver strikes
// the state of any host.
func (s state) has(w *World, m *Machine) bool {
	if s.receiver != nil {
		return s.receiver(w)
	}
	return slices.ContainsFunc(w.hosts, func(h *Host) bool { return (m == w.rx || h.Machine == m) && s.host(w, h) })
}

// aimPatience is how long a fault waits for its state, and aimEvery how often it checks.
const (
	aimPatience = 4 * time.Hour
	aimEvery    = 20 * time.Second
)

// aimed reports whether a fault's target is in the state that the fault waits for. A fault of
// a host strikes the first host that is.
func (w *World) aimed(f *Fault) bool {
	s := stateNamed(f.When)
	if w.kinds[f.Kind].Party != OfHost {
		return s.has(w, w.rx)
	}
	for n := range w.hosts {
		if who := (f.Who + n) % len(w.hosts); s.has(w, w.hosts[who].Machine) {
			f.Who = who
			return true
		}
	}
	return false
}

// struck records the states of a target at the start of a fault.
func (b *book) struck(f Fault, m *Machine) {
	var in []string
	for _, s := range states() {
		if s.has(b.w, m) {
			in = append(in, s.name)
		}
	}
	if b.w.recently(0, func(g Fault) bool { return g != f && b.w.target(g) == m }) {
		in = append(in, "ill already")
	}
	if len(in) == 0 {
		in = append(in, "idle")
	}
	b.mu.Lock()
	for _, s := range in {
		b.states[[2]string{f.Kind, s}]++
	}
	b.mu.Unlock()
}

func (h *Host) certified() bool { return disk.Exists(h.disk, filepath.Join(hostCerts, "lab-host.pem")) }

// crashed reports whether the shipper crashed in the running trial.
func (h *Host) crashed() bool {
	if !h.onTrial() {
		return false
	}
	b, err := h.binary("current")
	return err == nil && h.crashes[b.Version] != nil && h.crashes[b.Version].Load() > 0
}

// updated reports whether a release runs after its trial.
func (h *Host) updated() bool {
	if h.onTrial() {
		return false
	}
	b, err := h.binary("good")
	return err == nil && b.Commit != ownCommit
}

// unanswered reports whether an episode is stored and its host does not know.
func (w *World) unanswered(h *Host) bool {
	return slices.ContainsFunc(slices.Concat(h.names("episodes"), h.names("outbox")), func(name string) bool {
		id, _, _ := strings.Cut(name, ".")
		return id != "" && disk.Exists(w.rx.disk, filepath.Join(rxData, store.EpisodesDir, h.name, id+wire.TarballSuffix))
	})
}

// ails reports whether a host has a fault, or shares one.
func (w *World) ails(h *Host) bool {
	return w.recently(0, func(f Fault) bool { return f.For > 0 && (w.kinds[f.Kind].Party != OfHost || w.target(f) == h.Machine) })
}

// firing reports whether an alert of a host is open.
func (b *book) firing(host string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.open {
		if k.Host == host {
			return true
		}
	}
	return false
}
