package orchestrate

import (
	"context"
	"sync"
	"time"

	"cis490/internal/episode"
	"cis490/internal/experiment"
)

const (
	// maxJitter is the share of a sampling period by which the 99th percentile of samples
	// may be late. A later sampler means that the workloads' own timing suffers too.
	maxJitter = 0.5
	// maxMissed is the share of due samples that may be missed.
	maxMissed = 0.01
	// wakes and wakeEvery define the measurement before an episode.
	wakes     = 20
	wakeEvery = 10 * time.Millisecond
	// recoverAfter is how many good episodes in a row add a slot.
	recoverAfter = 10
)

// throttle adjusts the number of slots: one fewer after an overloaded episode, one more
// after several good ones in a row. Too many concurrent recordings distort all of them.
type throttle struct {
	mu   sync.Mutex
	most int
	now  int
	good int
}

func newThrottle(slots int) *throttle { return &throttle{most: slots, now: slots} }

// allows reports whether a slot may record now. The first always may.
func (t *throttle) allows(slot int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slot < t.now
}

// observe adjusts the slots after an episode, and returns their number before and after.
func (t *throttle) observe(m episode.Meta) (before, after int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.now
	if overloaded(m.Sampling[processSource], m.Rows[processSource]) {
		t.good = 0
		t.now = max(1, t.now-1)
	} else if t.good++; t.good >= recoverAfter {
		t.good = 0
		t.now = min(t.most, t.now+1)
	}
	return before, t.now
}

func overloaded(s episode.Sampling, rows int) bool {
	if s.Hz <= 0 || rows == 0 {
		return false
	}
	late := time.Duration(s.JitterP99US) * time.Microsecond
	period := time.Duration(float64(time.Second) / s.Hz)
	return late > time.Duration(maxJitter*float64(period)) || float64(s.Missed) > maxMissed*float64(rows+s.Missed)
}

// wakesInTime measures whether this host wakes a sampler of that rate in time, under any
// load, its own or others'. One late wake is chance; two of twenty are load.
func wakesInTime(ctx context.Context, hz float64, now func() time.Time) bool {
	allowed := maxJitter * float64(time.Second) / hz
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

// fastest returns the highest sampling rate of the profiles.
func fastest(profiles []experiment.Profile) float64 {
	var hz float64
	for _, p := range profiles {
		hz = max(hz, p.Collectors.ProcHz)
	}
	return hz
}
