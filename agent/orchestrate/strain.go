package orchestrate

import (
	"sync"
	"time"

	"cis490/internal/episode"
)

const (
	// strainJitter is the share of a sampling period that samples may be late,
	// at the 99th percentile, before the host counts as strained: what the
	// sampler misses, the workloads' own timing has lost as well.
	strainJitter = 0.5
	// strainMissed is the share of due samples that may be missed.
	strainMissed = 0.01
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
