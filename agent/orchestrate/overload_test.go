package orchestrate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"cis490/internal/episode"
	"cis490/internal/experiment"
)

func sampled(p99us int64, missed int) episode.Meta {
	return episode.Meta{
		Rows:     map[string]int{processSource: 100},
		Sampling: map[string]episode.Sampling{processSource: {Hz: 10, JitterP99US: p99us, Missed: missed}},
	}
}

func TestThrottle_BacksOffAndRecovers(t *testing.T) {
	good, late, missing := sampled(9_000, 1), sampled(60_000, 0), sampled(9_000, 5)
	th := newThrottle(3)
	step := func(m episode.Meta, want int) {
		t.Helper()
		if _, now := th.observe(m); now != want {
			t.Fatalf("%d slots, want %d", now, want)
		}
	}
	step(good, 3)
	step(late, 2)
	step(missing, 1)
	step(late, 1) // never none
	if !th.allows(0) || th.allows(1) {
		t.Error("with one slot left the first may record, and it alone")
	}
	for range recoverAfter - 1 {
		step(good, 1)
	}
	step(good, 2)
	for range recoverAfter / 2 {
		step(good, 2)
	}
	step(late, 1) // the count of good episodes starts over
	for range recoverAfter - 1 {
		step(good, 1)
	}
	step(good, 2)
	for range 3 * recoverAfter {
		th.observe(good)
	}
	step(good, 3) // never more than the host's own
	if th.observe(episode.Meta{}); !th.allows(2) {
		t.Error("an episode without samples is not overloaded")
	}
}

func TestCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// late is a clock that shows a delay at the n-th wake.
		late := func(delays map[int]time.Duration) func() time.Time {
			reads, sum := 0, time.Duration(0)
			return func() time.Time {
				reads++
				sum += delays[reads/2] // read before and after each wait
				return time.Now().Add(sum)
			}
		}
		for name, c := range map[string]struct {
			hz     float64
			delays map[int]time.Duration
			want   bool
		}{
			"in time":          {100, nil, true},
			"late once":        {10, map[int]time.Duration{3: time.Second}, true},
			"late twice":       {10, map[int]time.Duration{3: 60 * time.Millisecond, 9: 60 * time.Millisecond}, false},
			"late for a rate":  {50, map[int]time.Duration{3: 12 * time.Millisecond, 9: 12 * time.Millisecond}, false},
			"not for a slower": {10, map[int]time.Duration{3: 12 * time.Millisecond, 9: 12 * time.Millisecond}, true},
		} {
			if got := wakesInTime(t.Context(), c.hz, late(c.delays)); got != c.want {
				t.Errorf("%s: good %t", name, got)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if wakesInTime(ctx, 100, time.Now) {
			t.Error("a recorder that is stopped begins an episode")
		}
	})
}

func TestFastest(t *testing.T) {
	at := func(hz float64) experiment.Profile {
		return experiment.Profile{Collectors: experiment.Collectors{ProcHz: hz}}
	}
	if hz := fastest([]experiment.Profile{at(1), at(50), at(10)}); hz != 50 {
		t.Errorf("%g Hz", hz)
	}
}
