package sim

import (
	"path/filepath"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/receiver/fleet"
)

// peoples are actions of people, intended or mistaken.
func peoples() map[string]Kind {
	return map[string]Kind{
		"decommission": {Often: 2, Most: 6 * time.Hour, start: decommission, end: readmit},
		"host-cloned":  {Want: []string{fleet.Cloned}, Often: 2, Most: 5 * time.Hour, start: cloned, end: cloneOff},
		"impostor":     {Party: OfPeople, Often: 1, start: impostor},
		"ca-rotate":    {Party: OfPeople, Often: 1, start: rotateCA},
	}
}

// insist calls do every five minutes until it succeeds, as a person would.
func (w *World) insist(who, what string, do func() error) {
	w.wg.Go(func() {
		for {
			err := do()
			if err == nil {
				w.trace(who, "%s", what)
				return
			}
			w.trace(who, "%s: %v", what, err)
			select {
			case <-w.ctx.Done():
				return
			case <-time.After(5 * time.Minute):
			}
		}
	})
}

// change sends a change to the authority over its socket.
func (r *Receiver) change(path string) error {
	return r.ask(r.w.ctx, r.person(), "http://authority"+path, rxSocket, struct{}{}, nil)
}

func decommission(w *World, m *Machine, _ Fault) {
	w.insist("receiver", "decommission "+m.name, func() error { return w.recv.change("/v1/hosts/" + m.name + "/decommission") })
}

// readmit readmits a host with a new token.
func readmit(w *World, m *Machine, f Fault) {
	h := w.hosts[f.Who%len(w.hosts)]
	w.insist("receiver", "readmit "+m.name, func() error {
		if err := w.recv.change("/v1/hosts/" + m.name + "/readmit"); err != nil {
			return err
		}
		return w.recv.admit(w.ctx, h)
	})
}

// rotateCA is a person who creates a new CA.
func rotateCA(w *World, _ *Machine, _ Fault) {
	w.insist("receiver", "rotate the CA", func() error { return w.recv.change("/v1/ca/rotate") })
}

// cloned is a person who copies a host's disk to a second machine without a recorder.
func cloned(w *World, _ *Machine, f Fault) {
	h := w.hosts[f.Who%len(w.hosts)]
	if _, err := h.binary("current"); err != nil || disk.Exists(h.disk, filepath.Join(hostCerts, "join-token")) {
		return // nothing is installed yet, or both machines would use one token
	}
	twin := &Host{Machine: newMachine(w, h.name+"b", "10.0.1.1:4000", hostRoot, hostData), id: h.id, crashes: newCrashes()}
	twin.disk = h.disk.Copy()
	twin.disk.SetClock(twin.Clock.Now)
	twin.enable(
		&Service{Name: "ship", Unit: "cis490-shipper", Main: twin.ship, First: time.Second},
		&Service{Name: "cert-fetch", Unit: "cis490-cert-fetch", Main: twin.certFetch},
	)
	for _, name := range h.names("episodes") {
		h.copied.Store(name, true)
	}
	h.twin.Store(twin)
	twin.Boot()
}

func cloneOff(w *World, _ *Machine, f Fault) {
	if twin := w.hosts[f.Who%len(w.hosts)].twin.Swap(nil); twin != nil {
		twin.Off(faultdisk.All)
	}
}

// impostor is a client that has a host's credentials and sends requests for another host.
func impostor(w *World, _ *Machine, f Fault) {
	h, other := w.hosts[f.Who%len(w.hosts)], w.hosts[(f.Who+1)%len(w.hosts)]
	if _, err := h.binary("current"); err != nil || h == other {
		return // nothing is installed yet
	}
	w.wg.Go(func() {
		conf, err := h.load(h.person())
		if err != nil {
			return
		}
		conf.Host = other.name
		cl, err := h.clientOf(h.person(), conf)
		if err != nil {
			return
		}
		defer cl.Close()
		w.book.count()
		for _, name := range []string{other.name, h.name} { // the path names the other host
			b, err := h.report(name, check.Row{ID: "outbox.oldest", Title: "episodes are shipped soon", Status: check.Pass})
			if err != nil {
				return
			}
			if err := cl.PutHealth(w.ctx, b); err == nil {
				w.book.breaks("no host acts as another", "", "a request of %s was accepted for %s", h.name, other.name)
			}
		}
	})
}
