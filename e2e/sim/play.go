package sim

import (
	"slices"
	"time"
)

// current are the faults of a run, with the times at which they began.
type current struct {
	faults []Fault
	traces []time.Duration // end of each fault's effects
}

// faults returns the plan's faults. One that waits for a state is in the far future.
func (w *World) faults() []Fault { return w.current.Load().faults }

// change sets a fault.
func (w *World) change(n int, f Fault) {
	all := slices.Clone(w.faults())
	all[n] = f
	w.current.Store(&current{all, w.tracesOf(all)})
}

// moment is the start or the end of a fault.
type moment struct {
	at    time.Duration
	fault int // its index
	ends  bool
}

// schedule adds a moment, after others of the same time.
func (w *World) schedule(m moment) {
	i := slices.IndexFunc(w.due, func(other moment) bool { return other.at > m.at })
	if i < 0 {
		i = len(w.due)
	}
	w.due = slices.Insert(w.due, i, m)
}

// prepare schedules the starts of the plan's faults.
func (w *World) prepare() {
	all := slices.Clone(w.plan.Faults)
	for n, f := range all {
		if w.schedule(moment{at: f.At, fault: n}); f.When != "" {
			all[n].At = never / 2
		}
	}
	w.current.Store(&current{all, w.tracesOf(all)})
}

// play starts and ends the faults. Faults of the start begin before any program runs.
func (w *World) play(before bool) {
	for len(w.due) > 0 && (!before || w.due[0].at == 0 && !w.due[0].ends) {
		m := w.due[0]
		w.due = w.due[1:]
		time.Sleep(time.Until(w.began.Add(m.at)))
		f := w.faults()[m.fault]
		if f.When != "" && !m.ends {
			if !w.aimed(&f) && m.at < w.plan.Faults[m.fault].At+aimPatience {
				w.schedule(moment{at: m.at + aimEvery, fault: m.fault})
				continue
			}
			f.At = time.Since(w.began)
			w.change(m.fault, f)
		}
		if w.strike(f, m.ends); !m.ends && f.For > 0 {
			w.schedule(moment{f.At + f.For, m.fault, true})
		}
	}
	if !before {
		time.Sleep(time.Until(w.began.Add(w.plan.Length)))
	}
}

// strike starts or ends a fault.
func (w *World) strike(f Fault, ends bool) {
	k, target := w.kinds[f.Kind], w.target(f)
	if ends {
		w.trace(target.name, "-- %s ends", f.Kind)
		if k.end != nil {
			k.end(w, target, f)
		}
		return
	}
	w.trace(target.name, "-- %s for %s, n=%d %s", f.Kind, f.For, f.N, f.When)
	w.book.struck(f, target)
	k.start(w, target, f)
	if f.Kind == "gate-block" {
		w.blocked.Store(true)
	}
}
