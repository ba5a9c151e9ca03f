package orchestrate

import (
	"testing"

	"cis490/internal/episode"
)

func sampled(p99us int64, missed int) episode.Meta {
	return episode.Meta{
		Rows:     map[string]int{processSource: 100},
		Sampling: map[string]episode.Sampling{processSource: {Hz: 10, JitterP99US: p99us, Missed: missed}},
	}
}

func TestThrottle_BacksOffAndRecovers(t *testing.T) {
	calm, late, missing := sampled(9_000, 1), sampled(60_000, 0), sampled(9_000, 5)
	th := newThrottle(3)
	step := func(m episode.Meta, want int) {
		t.Helper()
		if _, now := th.heed(m); now != want {
			t.Fatalf("%d slots, want %d", now, want)
		}
	}
	step(calm, 3)
	step(late, 2)
	step(missing, 1)
	step(late, 1) // never none
	if !th.open(0) || th.open(1) {
		t.Error("with one slot left the first may record, and it alone")
	}
	for range easeAfter - 1 {
		step(calm, 1)
	}
	step(calm, 2)
	for range easeAfter / 2 {
		step(calm, 2)
	}
	step(late, 1) // the row of calm ones begins anew
	for range easeAfter - 1 {
		step(calm, 1)
	}
	step(calm, 2)
	for range 3 * easeAfter {
		th.heed(calm)
	}
	step(calm, 3) // never more than the host's own
	if th.heed(episode.Meta{}); !th.open(2) {
		t.Error("an episode without samples is no strain")
	}
}
