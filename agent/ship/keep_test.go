package ship_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cis490/agent/client/clienttest"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

func quickPings(h *host) { h.cfg.Ship.PingEvery = config.Duration(50 * time.Millisecond) }

// TestRun_KeepsShippedWithinLimits: only episodes that the receiver has just confirmed are
// removed, and only beyond the limits.
func TestRun_KeepsShippedWithinLimits(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	quickPings(h)
	h.cfg.Ship.ReconcileEvery = config.Duration(100 * time.Millisecond)
	h.cfg.Ship.ShippedKeepBytes = 1000 // two of them
	for range 10 {
		h.record(good)
	}
	_, stop := h.run()
	h.until("two are kept", func() bool { return len(r.Stored()) == 10 && len(h.names("shipped")) == 3 })
	stop()
	r.Forget("01J00000000000000000000010")
	h.cfg.Ship.ShippedKeepBytes = 1
	_, stop = h.run()
	h.until("what was lost is sent again, not removed", func() bool { return r.Stored()["01J00000000000000000000010"] != "" })
	stop()
}

// full is a packer on a disk that is full until shipped/ has shrunk.
type full struct {
	spool.Packer
	h     *host
	fails atomic.Int32
}

func (f *full) Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error) {
	if len(f.h.names("shipped")) > 3 {
		f.fails.Add(1)
		return episode.Packed{}, &os.PathError{Op: "write", Path: "outbox", Err: syscall.ENOSPC}
	}
	return f.Packer.Pack(ctx, w, src)
}

func TestRun_ShippedMakesRoom(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	quickPings(h)
	for range 8 {
		h.record(good)
	}
	if err := h.once(); err != nil {
		t.Fatal(err)
	}
	f := &full{h: h}
	p, err := episode.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	f.Packer = p
	h.opts = func(o *ship.Options) { o.NewPacker = func() (spool.Packer, error) { return f, nil } }
	id := h.record(good)
	_, stop := h.run()
	h.until("the new one is shipped", func() bool { return r.Stored()[id] != "" })
	stop()
	if f.fails.Load() == 0 {
		t.Error("the disk was never full")
	}
}

func TestRun_QuarantineExpiresButForConflicts(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	quickPings(h)
	r.Refuse(good, wire.NewProblem(wire.OtherDigest, "no"))
	r.Refuse(bad, wire.NewProblem(wire.TooLarge, "no"))
	conflict, large := h.record(good), h.record(bad)
	if err := h.once(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []ident.EpisodeID{conflict, large} {
		path := filepath.Join(h.dir, "quarantine", string(id), episode.ReasonFile)
		sp := &spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}
		reason, err := sp.ReasonOf(id)
		if err != nil {
			t.Fatal(err)
		}
		reason.At = time.Now().AddDate(0, 0, -8)
		b, err := json.Marshal(reason)
		if err == nil {
			err = os.WriteFile(path, b, 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h.cfg.Ship.QuarantineKeepDays = 7
	_, stop := h.run()
	h.until("only the conflict is left", func() bool { n := h.names("quarantine"); return len(n) == 1 && n[0] == string(conflict) })
	stop()
	if left := h.names("outbox"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRun_AClockAheadDiscardsNothing: what looks old only by this host's clock is kept.
func TestRun_AClockAheadDiscardsNothing(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	quickPings(h)
	r.Refuse(bad, wire.NewProblem(wire.TooLarge, "no"))
	large := h.record(bad)
	if err := h.once(); err != nil {
		t.Fatal(err)
	}
	h.cfg.Ship.QuarantineKeepDays = 7
	h.now = func() time.Time { return time.Now().AddDate(0, 0, 20) }
	s, stop := h.run()
	h.until("reconciled", func() bool {
		st, err := spool.LoadState(disk.OS{}, h.dir)
		return err == nil && !st.ReconciledAt.IsZero() && s != nil
	})
	stop()
	if n := h.names("quarantine"); len(n) != 1 || n[0] != string(large) {
		t.Errorf("quarantine has %v", n)
	}
}

// TestOnce_DamagedOnTheWay: one upload that arrives damaged costs one more packing.
func TestOnce_DamagedOnTheWay(t *testing.T) {
	var puts atomic.Int32
	r := clienttest.Start(t, func(r *clienttest.Receiver) {
		r.OnPut = func(w http.ResponseWriter, _ *http.Request) bool {
			if puts.Add(1) > 1 {
				return false
			}
			clienttest.Refuse(w, wire.NewProblem(wire.BadDigest, "after 3 bytes"))
			return true
		}
	})
	h := newHost(t, r)
	id := h.record(good)
	if err := h.once(); err != nil || r.Stored()[id] == "" || puts.Load() != 2 {
		t.Errorf("%v, %d PUTs, stored %v", err, puts.Load(), r.Stored())
	}
}

// TestOnce_Bandwidth: the limit applies to the sum of what is sent.
func TestOnce_Bandwidth(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	h.cfg.Ship.BandwidthPerSecond = 4000
	for range 12 {
		h.record(good)
	}
	start := time.Now()
	if err := h.once(); err != nil {
		t.Fatal(err)
	}
	// Some 4,400 bytes, of which a quarter of a second's worth may be sent at once.
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("4,400 bytes at 4,000 per second took %s", took)
	}
}
