package sim

import (
	"path/filepath"
	"slices"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/receiver/fleet"
)

// hangs are faults in which a call, an authority or a host stays away without an error.
func hangs() map[string]Kind {
	return map[string]Kind{
		"host-hang": {Often: 2, start: hang},
		"host-shelved": {
			Want: []string{fleet.Silent, fleet.Gone}, Often: 1, Most: 12 * time.Hour, start: shelved,
			end: func(_ *World, m *Machine, _ Fault) { m.Boot() },
		},
		"ca-away": {Party: OfReceiver, Often: 1, Most: 40 * time.Minute, start: authorityAway, end: authorityBack},
	}
}

// hang blocks the shipper's next access to the disk, as during a reset of a controller.
func hang(_ *World, m *Machine, _ Fault) {
	m.mu.Lock()
	p := m.Service("ship").proc
	m.mu.Unlock()
	if p != nil {
		p.hungAt = time.Now()
		p.hangs.Store(true)
	}
}

// authorityAway reinstalls a host and stops the authority before the host starts.
func authorityAway(w *World, m *Machine, f Fault) {
	h := w.hosts[f.Who%len(w.hosts)]
	if !h.On() || disk.Exists(h.disk, filepath.Join(hostCerts, "join-token")) {
		return
	}
	h.Off(faultdisk.All)
	removeAll(h.disk, hostCerts)
	if err := w.recv.admit(w.ctx, h); err != nil {
		w.insist(m.name, "token for "+h.name, func() error { return w.recv.admit(w.ctx, h) })
	}
	m.Stop("bootstrap")
	h.Boot()
}

func authorityBack(_ *World, m *Machine, _ Fault) { m.Restart("bootstrap") }

// shortLife is how long the certificate of a host lasts that is off for longer than that.
const shortLife = time.Hour

// shelved is a host that is switched off for longer than its certificate lasts, because a
// person had the authority issue a short one.
func shelved(w *World, m *Machine, f Fault) {
	if !m.On() {
		return
	}
	w.recv.issueFor(shortLife)
	_ = w.hosts[f.Who%len(w.hosts)].fetch(m.person(), true)
	w.recv.issueFor(w.recv.conf.Authority.CertLife.D())
	m.Off(faultdisk.All)
}

// issueFor is a person who changes how long certificates last.
func (r *Receiver) issueFor(life time.Duration) {
	r.life.Store(int64(life))
	r.Restart("bootstrap")
	time.Sleep(10 * time.Second)
}

// watchHangs: a hung service is restarted.
func (w *World) watchHangs() {
	w.after("host-hang", w.times(20*time.Minute), func(_ Fault, h *Host) {
		if !h.Service("ship").running() {
			w.book.breaks("a hung service is restarted", "", "the shipper of %s hung, and does not run", h.name)
		}
	})
	for _, h := range w.hosts {
		h.mu.Lock()
		p := h.Service("ship").proc
		h.mu.Unlock()
		if p == nil || !p.hangs.Load() {
			continue
		}
		w.book.count()
		if lasts := time.Since(p.hungAt); lasts > w.times(20*time.Minute) {
			w.book.breaks("a hung service is restarted", "", "the shipper of %s hangs for %s", h.name, lasts.Round(time.Minute))
		}
	}
}

// watchHung: the watchdog kills only hung services.
func (w *World) watchHung(p *Proc) {
	w.book.count()
	if p.s.Name == "ship" && !p.hangs.Load() {
		w.book.breaks("only a hung service is killed", "", "the watchdog of %s kills its shipper", p.m.name)
	}
}

// watchCertified: a host gets its certificate soon after the authority is back.
func (w *World) watchCertified() {
	soon := w.times(10 * time.Minute)
	w.after("host-shelved", soon, func(f Fault, h *Host) {
		if age := h.Clock.Now().Sub(h.enrolled()); f.At > 0 && f.For > shortLife && age > f.For {
			w.book.breaks("a host gets its certificate", "", "%s was off, and renewed none in %s", h.name, soon)
		}
	})
	w.after("ca-away", soon, func(_ Fault, h *Host) {
		if !h.certified() {
			w.book.breaks("a host gets its certificate", "", "%s has none %s after the authority came back", h.name, soon)
		}
	})
}

// after calls a rule for each fault of a kind that ended a given time ago, unless its host or
// the receiver has another fault.
func (w *World) after(kind string, age time.Duration, rule func(Fault, *Host)) {
	now := time.Since(w.began)
	for _, f := range w.faults() {
		h, due := w.hosts[f.Who%len(w.hosts)], w.ends(f)+age
		if f.Kind != kind || now < due || now >= due+w.checks() {
			continue
		}
		if slices.ContainsFunc(w.faults(), func(g Fault) bool {
			return g != f && (w.kinds[g.Kind].Party != OfHost || w.target(g) == h.Machine) &&
				g.At <= now && w.ends(g)+w.settles() >= f.At
		}) {
			continue
		}
		w.book.count()
		rule(f, h)
	}
}
