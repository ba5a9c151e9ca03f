package sim

import (
	"path/filepath"
	"syscall"
	"time"

	"cis490/internal/disk/faultdisk"
	rel "cis490/internal/manifest"
)

// timely are faults that wait for a condition.
func timely() map[string]Kind {
	return map[string]Kind{
		"trial-power": {Party: OfPeople, Often: 2, start: trialPower},
		"canary-off":  {Party: OfPeople, Often: 1, Most: 8 * time.Hour, start: canaryOff},
		// While hosts run a release, serve starts without readable releases.
		"releases-unread": {Party: OfReceiver, Often: 1, Most: 4 * time.Hour, start: releasesUnread, end: readAgain},
	}
}

// await waits for a condition until a timeout.
func (w *World) await(most time.Duration, moment func() bool) bool {
	for range most / (30 * time.Second) {
		if moment() {
			return true
		}
		select {
		case <-w.ctx.Done():
			return false
		case <-time.After(30 * time.Second):
		}
	}
	return false
}

// trialPower publishes a release and cuts the power of the first host that tries it.
func trialPower(w *World, m *Machine, f Fault) {
	publish(func(*Binary, Fault) {})(w, m, f)
	w.wg.Go(func() {
		var h *Host
		if !w.await(3*time.Hour, func() bool { h = w.trying(); return h != nil }) {
			return
		}
		time.Sleep(time.Duration(f.N%300) * time.Second)
		if w.ctx.Err() != nil {
			return
		}
		w.trace(h.name, "-- the power fails in the trial")
		h.Off([]faultdisk.Survive{faultdisk.Nothing, faultdisk.Names, faultdisk.HalfData, faultdisk.All}[f.N&3])
		time.Sleep(time.Minute)
		h.Boot()
	})
}

// trying returns a host on which a version is on trial.
func (w *World) trying() *Host {
	for _, h := range w.hosts {
		if h.On() && h.onTrial() {
			return h
		}
	}
	return nil
}

// canaryOff publishes a release and cuts the power of its canary.
func canaryOff(w *World, m *Machine, f Fault) {
	publish(func(*Binary, Fault) {})(w, m, f)
	w.wg.Go(func() {
		var h *Host
		found := w.await(time.Hour, func() bool {
			p := w.recv.newest()
			if p == nil || p.Stage != rel.StageCanary || len(p.Canaries) == 0 {
				return false
			}
			for _, other := range w.hosts {
				if other.id == p.Canaries[0] {
					h = other
				}
			}
			return h != nil
		})
		if !found || !h.On() {
			return
		}
		w.trace(h.name, "-- the canary is switched off for %s", f.For)
		h.Off(faultdisk.All)
		select {
		case <-w.ctx.Done():
		case <-time.After(f.For):
			h.Boot()
		}
	})
}

// releasesUnread makes the releases unreadable and restarts serve.
func releasesUnread(_ *World, m *Machine, f Fault) {
	m.dmu.Lock()
	m.spot, m.spotErr = filepath.Join(rxReleases, pick(f.N, "orders.jsonl", "signed")), syscall.EIO
	m.dmu.Unlock()
	m.Kill("serve")
}

func readAgain(_ *World, m *Machine, _ Fault) {
	m.dmu.Lock()
	m.spot = ""
	m.dmu.Unlock()
}

// newest returns the progress of the newest release that is not withdrawn, or nil.
func (r *Receiver) newest() *rel.Progress {
	all, err := rel.ReadRollout(r.disk, rxReleases)
	if err != nil {
		return nil
	}
	for _, p := range all.Releases {
		if p.Stage != rel.StageWithdrawn {
			return p
		}
	}
	return nil
}
