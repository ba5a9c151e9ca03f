package sim

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	rel "cis490/internal/manifest"
	"cis490/receiver/fleet"
	"cis490/receiver/store"
)

// calm reports whether a host and the receiver had no recent fault.
func (w *World) calm(within time.Duration, h *Host) bool {
	return h.On() && !w.recently(within, func(f Fault) bool {
		switch f.Kind {
		case "release", "release-zip", "release-crash", "trial-power", "canary-off":
			return false
		}
		return w.kinds[f.Kind].Party != OfHost || w.target(f) == h.Machine
	})
}

// watchTrials: every trial ends.
func (w *World) watchTrials() {
	for _, h := range w.hosts {
		if !h.onTrial() || !w.calm(0, h) {
			delete(w.trial, h)
			continue
		}
		w.book.count()
		if w.trial[h].IsZero() {
			w.trial[h] = time.Now()
		}
		if lasts := time.Since(w.trial[h]); lasts > w.calms() {
			w.book.breaks("a trial ends", h.name, "%s has been on trial for %s", h.name, lasts.Round(time.Minute))
		}
	}
}

// rolling is a step of the newest release.
type rolling struct {
	seq      uint64
	stage    rel.Stage
	canaries int
	since    time.Time
}

// watchRollout: a release does not wait for a silent host while another can try it.
func (w *World) watchRollout() {
	p := w.recv.newest()
	if p == nil || p.Stage != rel.StageCanary {
		w.step = rolling{}
		return
	}
	if now := (rolling{p.Seq, p.Stage, len(p.Canaries), w.step.since}); now != w.step {
		now.since = time.Now()
		w.step = now
	}
	i := slices.IndexFunc(w.hosts, func(h *Host) bool {
		b, err := h.binary("current") // missing before the first install
		return err == nil && !slices.Contains(p.Canaries, h.id) && b.Commit != p.Commit && !h.onTrial() && w.calm(w.calms(), h)
	})
	if i < 0 {
		return
	}
	w.book.count()
	if lasts := time.Since(w.step.since); lasts > w.calms() {
		w.book.breaks("a release advances", p.Version, "%s has waited %[3]s for %[2]v, and %[4]s could try it", p.Version, p.Canaries,
			lasts.Round(time.Minute), w.hosts[i].name)
	}
}

// watchReserve: the reserve is not used.
func (w *World) watchReserve() {
	now := time.Since(w.began)
	i := slices.IndexFunc(w.faults(), func(f Fault) bool { return f.Kind == "rx-low" && f.At+time.Minute < now && now < f.At+f.For })
	if i < 0 {
		return
	}
	w.book.count()
	n := 0
	for _, h := range w.hosts {
		n += len(w.rx.names(filepath.Join(store.EpisodesDir, h.name)))
	}
	if w.low == i && n > w.kept {
		w.book.breaks("the reserve stays free", "", "%d episodes were stored on a disk that has less than its reserve", n-w.kept)
	}
	w.low, w.kept = i, n
}

// watchGate: episodes that the gate rejects wait in the outbox.
func (w *World) watchGate() {
	for _, h := range w.hosts {
		for _, id := range h.names("quarantine") {
			w.book.count()
			if text := w.reason(h.id, ident.EpisodeID(id)); strings.Contains(text, `"status": 412`) || strings.Contains(text, `"status":412`) {
				w.book.breaks("rejected commits wait", h.name, "%s of %s is set aside: %s", id, h.name, text)
			}
		}
	}
}

// watchLinks: a host sends a bounded number of requests.
func (w *World) watchLinks() {
	for _, h := range w.hosts {
		w.book.count()
		h.link.mu.Lock()
		hammered := h.link.hammered
		h.link.mu.Unlock()
		if hammered {
			w.book.breaks("a host sends few requests", h.name, "%s had %d answers within an hour", h.name, most)
		}
	}
}

// watchMonitored: a host's health check reports a stopped fleet-check.
func (w *World) watchMonitored(h *Host, r check.Result) {
	now, gone := time.Since(w.began), w.unjudged()
	clocks := func(f Fault) bool { return f.Kind == "rx-clock" || f.Kind == "rx-nobattery" }
	i := slices.IndexFunc(w.faults(), func(f Fault) bool { return f.Kind == "rx-unwatched" && f.At+gone < now && now < w.ends(f) })
	if i < 0 || w.recently(24*time.Hour, clocks) {
		return
	}
	w.book.count()
	if r.Status == check.Pass {
		w.book.breaks("a host reports a stopped fleet-check", "", "%s finds that fleet-check runs, and it does not: %s", h.name, r.Detail)
	}
}

// quiet: a host that left in order is not notified.
func (w *World) quiet(a fleet.Alert) {
	i := slices.IndexFunc(w.hosts, func(h *Host) bool { return h.name == a.Host })
	if i < 0 || a.Quiet || a.Symptom != fleet.Silent || a.State != fleet.Firing || !w.hosts[i].leaves.Load() && !w.hosts[i].asleep.Load() {
		return
	}
	other := func(f Fault) bool {
		return f.Kind != "host-leaves" && f.Kind != "host-sleep" && (w.kinds[f.Kind].Party != OfHost || w.target(f) == w.hosts[i].Machine)
	}
	// The receiver did not get its last ping, got a later one of a clone, which is like one of
	// the host after a boot, rejected a later request with its certificate, or has removed what it
	// knew of the host.
	unheard := func(f Fault) bool {
		return w.target(f) == w.hosts[i].Machine && !other(f) && slices.ContainsFunc(w.faults(), func(g Fault) bool {
			later := slices.Contains([]string{"decommission", "host-cloned", "impostor"}, g.Kind) && f.At <= g.At && g.At <= w.ends(f)
			return other(g) && (later || g.At <= f.At && f.At <= w.ends(g)+w.reaches())
		})
	}
	if w.recently(w.alertAfter()+w.settles(), other) || w.recently(0, unheard) {
		return
	}
	w.book.count()
	w.book.breaks("no notification for a host that left", "", "%s left in order, and: %s (%s)", a.Host, a.Detail, a.Code)
}
