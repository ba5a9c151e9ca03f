package orchestrate

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// asked is a gate that counts the requests to record and denies each.
type asked struct{ n atomic.Int32 }

func (a *asked) Gate(context.Context, ident.Commit) (wire.Verdict, error) {
	a.n.Add(1)
	return wire.Verdict{}, errors.New("no")
}

// Other load on a host disturbs the recordings as much as too many slots do: then every
// slot but the first waits.
func TestFill_WaitsWhileTheHostIsCrowded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		gate := &asked{}
		r := &Orchestrator{
			o:        Options{FS: disk.OS{}, DataDir: dir, DiskReserve: 1 << 62, Log: slog.New(slog.DiscardHandler)},
			episodes: dir, beats: []*beat{newBeat(), newBeat()}, throttle: newThrottle(2),
		}
		r.gate = &gatekeeper{gate: gate, fsys: disk.OS{}, path: dir + "/" + gateFile, now: time.Now, log: r.o.Log}
		var busy atomic.Bool
		busy.Store(true)
		r.wakesInTime = func(context.Context, float64) bool { return !busy.Load() }
		fill := func(slot int, last time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), last)
			defer cancel()
			if err := r.fill(ctx, slot); err != nil {
				t.Error(err)
			}
		}
		fill(1, 10*time.Minute)
		if n := gate.n.Load(); n != 0 {
			t.Errorf("the second slot wanted to record %d times on a crowded host", n)
		}
		fill(0, 10*time.Minute)
		first := gate.n.Load()
		if first == 0 {
			t.Error("the first slot never wanted to record")
		}
		busy.Store(false)
		fill(1, 10*time.Minute)
		if gate.n.Load() == first {
			t.Error("the second slot never wanted to record on an idle host")
		}
	})
}
