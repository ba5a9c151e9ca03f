package sim

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/fleet"
	"cis490/receiver/store"
)

// recently reports whether a matching fault is active, or was within a while.
func (w *World) recently(within time.Duration, sort func(Fault) bool) bool {
	now := time.Since(w.began)
	return slices.ContainsFunc(w.faults(), func(f Fault) bool {
		return sort(f) && f.At <= now && now <= w.ends(f)+within
	})
}

// ends returns the end of a fault.
func (w *World) ends(f Fault) time.Duration {
	if f.Kind == "gate-block" {
		return 1 << 62
	}
	return f.At + f.For
}

// shows reports whether a matching fault may still have effects.
func (w *World) shows(sort func(Fault) bool) bool {
	now, c := time.Since(w.began), w.current.Load()
	for i, f := range c.faults {
		if f.At <= now && now <= c.traces[i] && !w.kinds[f.Kind].Mild && sort(f) {
			return true
		}
	}
	return false
}

// tracesOf returns the end of each fault's effects. They last at least as long as a fault of
// the receiver, and those of a clone while its pings are compared.
func (w *World) tracesOf(faults []Fault) []time.Duration {
	var all []time.Duration
	for _, f := range faults {
		ends := w.ends(f)
		for grown := true; grown; {
			grown = false
			for _, g := range faults {
				if w.kinds[g.Kind].Party == OfReceiver && g.At <= ends+w.settles() && w.ends(g) > ends {
					ends, grown = w.ends(g), true
				}
			}
		}
		if ends += w.settles(); f.Kind == "host-cloned" {
			ends = max(ends, w.ends(f)+w.compares())
		}
		all = append(all, ends)
	}
	return all
}

// gated is the code of an alert about a host whose commit the gate rejects.
const gated = "gated"

// justify checks an open alert: a fault of the same host, or of the receiver, must explain it.
func (w *World) justify(a fleet.Alert) {
	w.book.count()
	receivers := w.shows(func(f Fault) bool { return w.kinds[f.Kind].Party == OfReceiver })
	if a.Host == fleet.Receiver {
		if a.Symptom == fleet.ClockWrong && w.clocksDiffer() {
			return
		}
		if !receivers {
			w.book.breaks("no alert without a cause", a.Host+a.Symptom, "%s %s: %s (%s)", a.Host, a.Symptom, a.Detail, a.Reason)
		}
		return
	}
	i := slices.IndexFunc(w.hosts, func(h *Host) bool { return h.name == a.Host })
	// An alert of a rejected commit lasts while the host's own fault keeps it from trying again.
	own := w.shows(func(f Fault) bool {
		k := w.kinds[f.Kind]
		if a.Code == gated && !slices.Contains(k.Code, gated) {
			return k.Party == OfHost && f.Who%len(w.hosts) == i && w.recently(w.plan.Length, func(g Fault) bool {
				return slices.Contains(w.kinds[g.Kind].Code, gated)
			})
		}
		return k.Party == OfHost && f.Who%len(w.hosts) == i || k.Party == OfPeople
	}) || w.recv.seq.Load() > 0 && (a.Symptom == fleet.RolledBack || a.Symptom == fleet.StaleVersion)
	switch {
	case own, a.Quiet:
	case receivers:
		w.book.breaks("no host alert for a receiver fault", a.Symptom, "%s %s: %s (%s)", a.Host, a.Symptom, a.Detail, a.Reason)
	default:
		w.book.breaks("no alert without a cause", a.Host+a.Symptom, "%s %s: %s (%s)", a.Host, a.Symptom, a.Detail, a.Reason)
	}
}

// clocksDiffer reports whether the clocks of the receiver and of most hosts differ by more
// than the limit, or did a moment ago.
func (w *World) clocksDiffer() bool {
	return w.recently(w.settles(), func(f Fault) bool {
		return f.Kind == "rx-clock" || f.Kind == "rx-nobattery" || f.Kind == "host-clock"
	})
}

// watch checks the rules that always apply.
func (w *World) watch() {
	tick := time.NewTicker(w.checks())
	defer tick.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-tick.C:
		}
		w.watchJudging()
		w.watchConcluded()
		w.watchTrials()
		w.watchRollout()
		w.watchReserve()
		w.watchGate()
		w.watchLinks()
		w.watchHangs()
		w.watchCertified()
		for _, f := range w.faults() {
			w.watchAlerts(f)
		}
	}
}

// watchJudging: fleet-check completes a run soon after the fault that prevented it.
func (w *World) watchJudging() {
	w.book.count()
	if w.recently(w.unjudged(), func(f Fault) bool {
		return f.Kind == "rx-unwatched" || f.Kind == "rx-power" || f.Kind == "rx-nobattery" || f.Kind == "rx-restore" ||
			f.Kind == "rx-unmounted" ||
			w.rx.isIll() && w.kinds[f.Kind].Party == OfReceiver
	}) {
		return
	}
	w.book.mu.Lock()
	last := w.book.judged
	w.book.mu.Unlock()
	if ago := time.Since(later(last, w.began)); ago > w.unjudged() {
		w.book.breaks("fleet-check completes", "", "no complete run for %s", ago.Round(time.Minute))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *Machine) isIll() bool {
	m.dmu.Lock()
	defer m.dmu.Unlock()
	return m.ill != Well || m.bare != nil
}

// watchConcluded: a stored episode leaves its host's queue soon after the host is connected.
func (w *World) watchConcluded() {
	soon := w.concludes()
	if now := time.Since(w.began); now%(30*time.Minute) >= w.checks() ||
		w.recently(soon, func(f Fault) bool { return w.kinds[f.Kind].Party == OfReceiver }) {
		return
	}
	for i, h := range w.hosts {
		if w.recently(soon, func(f Fault) bool {
			return w.kinds[f.Kind].Party == OfHost && f.Who%len(w.hosts) == i && f.Kind != "host-clock"
		}) {
			continue
		}
		for _, name := range h.names("outbox") {
			w.book.count()
			id, ok := strings.CutSuffix(name, wire.TarballSuffix)
			if ok && disk.Exists(w.rx.disk, filepath.Join(rxData, store.EpisodesDir, h.name, name)) && w.book.older(ident.EpisodeID(id), soon) {
				w.book.breaks("stored episodes leave the queue", "outbox", "%s of %s is stored, and waits on its host", id, h.name)
			}
		}
	}
}

// older reports whether an episode is older than an age.
func (b *book) older(id ident.EpisodeID, age time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.episodes[id]
	return f != nil && time.Since(f.at) > age
}

// watchAlerts: a lasting fault raises an alert about the right machine.
func (w *World) watchAlerts(f Fault) {
	k := w.kinds[f.Kind]
	now := time.Since(w.began)
	due := func(age time.Duration) bool { return now >= f.At+age && now-w.checks() < f.At+age }
	if len(k.Want) == 0 || now > f.At+f.For || !due(w.alertAfter()) && !due(w.staleAfter()) {
		return
	}
	// Another fault may hide this one, or explain its alert.
	target := w.target(f)
	if w.recently(now-f.At+w.settles(), func(g Fault) bool {
		return g != f && !w.kinds[g.Kind].Mild && (k.Party == OfPeople || w.kinds[g.Kind].Party != OfHost || w.target(g) == target)
	}) || f.At < w.alertAfter() {
		return
	}
	if f.Kind == "gate-wrong" && !slices.ContainsFunc(w.hosts, func(h *Host) bool {
		b, err := h.binary("current")
		return err == nil && b.Commit == ownCommit
	}) {
		return // no host runs the rejected commit any more
	}
	w.book.count()
	w.book.mu.Lock()
	defer func() { w.book.mu.Unlock() }()
	if k.Party == OfReceiver {
		if at := w.book.heard[fleet.Receiver]; at.Before(w.began.Add(f.At)) {
			go w.book.breaks("a lasting fault raises an alert", f.Kind, "%s has lasted for %s without an alert", f.Kind,
				(now - f.At).Round(time.Minute))
		}
		return
	}
	var codes []string
	for key, a := range w.book.open {
		if (k.Party == OfPeople || key.Host == target.name) && slices.Contains(k.Want, key.Symptom) {
			if codes = append(codes, a.Code); len(k.Code) == 0 || slices.Contains(k.Code, a.Code) {
				return
			}
		}
	}
	go w.book.breaks("a lasting fault raises an alert", f.Kind, "%s at %s has lasted for %s; open for it: %v", f.Kind, target.name,
		(now - f.At).Round(time.Minute), codes)
}
