package sim_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"cis490/e2e/sim"
)

// TestFlat: after the second day, memory grows only by the simulated disk's data of each
// episode, and no goroutine leaks. It runs alone.
func TestFlat(t *testing.T) {
	if setting("SEEDS", 0) == 0 {
		t.Skip("make sim")
	}
	const days, hosts, pace, perEpisode = 7, 2, 4, 12 << 10 // bytes
	var heap []int
	var routines []int
	var r *sim.Report
	synctest.Test(t, func(t *testing.T) {
		go func() {
			time.Sleep(time.Until(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))) // a run begins then
			for range days {
				time.Sleep(24 * time.Hour)
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap, routines = append(heap, int(m.HeapAlloc)), append(routines, runtime.NumGoroutine())
			}
		}()
		var err error
		if r, err = sim.Run(sim.Plan{Seed: 1, Hosts: hosts, Pace: pace, Length: days * 24 * time.Hour}, nil, 0); err != nil {
			t.Fatal(err)
		}
	})
	for _, v := range r.Wrong {
		t.Errorf("%s: %s", v.Rule, v.Text)
	}
	grown := (heap[days-1] - heap[1]) / (r.Episodes * (days - 2) / days)
	t.Logf("%d episodes; heap by day: %v, %d bytes an episode; goroutines: %v", r.Episodes, heap, grown, routines)
	if grown > perEpisode {
		t.Errorf("the heap grows by %d bytes an episode, want at most %d", grown, perEpisode)
	}
	if routines[days-1] > routines[1]+4 {
		t.Errorf("goroutines by day: %v", routines)
	}
}
