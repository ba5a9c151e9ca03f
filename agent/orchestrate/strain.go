package orchestrate

import (
	"context"
	"sync"
	"time"

	"cis490/internal/episode"
	"cis490/internal/experiment"
)

const (
	// strainJitter is the share of a sampling period that samples may be late,
	// at the 99th percentile, before the host counts as strained: what the
	// sampler misses, the workloads' own timing has lost as well.
	strainJitter = 0.5
	// strainMissed is the share of due samples that may be missed.
	strainMissed = 0.01
	// wakes and wakeEvery are the measurement before an episode.
	wakes     = 20
	wakeEvery = 10 * time.Millisecond
	// easeAfter is how many episodes in a row without strain give a slot back.
	easeAfter = 10
)

// throttle is how many slots the host bears by what it showed. One slot fewer
// after an episode under strain, one more after a row without: too many
// recordings at the same time drown the signal of all of them.
type throttle struct {
	mu    sync.Mutex
	most  int
	now   int
	eased int
}

func newThrottle(slots int) *throttle { return &throttle{most: slots, now: slots} }

// open tells whether a slot may record now. The first always may.
func (t *throttle) open(slot int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slot < t.now
}

// heed learns from an episode, and returns the slots before and after.
func (t *throttle) heed(m episode.Meta) (before, after int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.now
	if strained(m.Sampling[processSource], m.Rows[processSource]) {
		t.eased = 0
		t.now = max(1, t.now-1)
	} else if t.eased++; t.eased >= easeAfter {
		t.eased = 0
		t.now = min(t.most, t.now+1)
	}
	return before, t.now
}

func strained(s episode.Sampling, rows int) bool {
	if s.Hz <= 0 || rows == 0 {
		return false
	}
	late := time.Duration(s.JitterP99US) * time.Microsecond
	period := time.Duration(float64(time.Second) / s.Hz)
	return late > time.Duration(strainJitter*float64(period)) || float64(s.Missed) > strainMissed*float64(rows+s.Missed)
}

// calm measures for a moment whether this host wakes a sampler of that rate in
// time. What others run on the host counts as much as what is recorded: both
// drown the signal. One late wake is chance, two of twenty are load.
func calm(ctx context.Context, hz float64, now func() time.Time) bool {
	allowed := strainJitter * float64(time.Second) / hz
	tick := time.NewTimer(0)
	defer tick.Stop()
	late := 0
	for range wakes {
		due := now().Add(wakeEvery)
		tick.Reset(wakeEvery)
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if float64(now().Sub(due)) > allowed {
			late++
		}
	}
	return late < 2
}

// fastest returns the highest rate at which processes are sampled.
func fastest(profiles []experiment.Profile) float64 {
	var hz float64
	for _, p := range profiles {
		hz = max(hz, p.Collectors.ProcHz)
	}
	return hz
}
