package ship_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/client/clienttest"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// sparse gives an episode a file of so many bytes that uses no disk space.
func (h *host) sparse(id ident.EpisodeID, bytes int64) {
	h.t.Helper()
	name := filepath.Join(h.dir, "episodes", string(id), "sub", "telemetry-large.jsonl")
	if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o770), os.WriteFile(name, nil, 0o660), os.Truncate(name, bytes)); err != nil {
		h.t.Fatal(err)
	}
}

// holding blocks with an episode until it is released.
type holding struct {
	spool.Packer
	ship.Receiver
	id         ident.EpisodeID
	held, free chan struct{}
}

func (p holding) Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error) {
	packed, err := p.Packer.Pack(ctx, w, src)
	if src.ID == p.id && err == nil {
		close(p.held)
		<-p.free
	}
	return packed, err
}

func (p holding) Put(ctx context.Context, t client.Tarball) (wire.Receipt, bool, error) {
	if t.Episode == p.id {
		t.Sent(0) // the receiver asked for it
		close(p.held)
		<-p.free
	}
	return p.Receiver.Put(ctx, t)
}

// TestRun_SmallDoesNotWait: while a large episode is packed or sent, smaller ones that came
// later are packed and sent.
func TestRun_SmallDoesNotWait(t *testing.T) {
	for _, stage := range []string{"packed", "sent"} {
		t.Run(stage, func(t *testing.T) {
			r := clienttest.Start(t, nil)
			h := newHost(t, r)
			id := h.record(good)
			h.sparse(id, 65<<20)
			x := holding{id: id, held: make(chan struct{}), free: make(chan struct{})}
			made := atomic.Int32{}
			h.opts = func(o *ship.Options) {
				make := o.NewPacker
				o.NewPacker = func() (spool.Packer, error) {
					made.Add(1)
					p, err := make()
					if stage == "packed" {
						x.Packer, p = p, holding{Packer: p, id: id, held: x.held, free: x.free}
					}
					return p, err
				}
				if stage == "sent" {
					o.Receiver = holding{Receiver: o.Receiver, id: id, held: x.held, free: x.free}
				}
			}
			_, stop := h.run()
			<-x.held
			for range 20 {
				h.record(good)
			}
			h.until("the small ones are shipped", func() bool { return len(r.Stored()) == 20 })
			close(x.free)
			h.until("the large one too", func() bool { return len(r.Stored()) == 21 })
			stop()
			if n := made.Load(); n != 2 {
				t.Errorf("%d packers were made, want one for each size", n)
			}
		})
	}
}

// TestRun_NoPackerForNothing: a host without large episodes has one packer.
func TestRun_NoPackerForNothing(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	made := 0
	h.opts = func(o *ship.Options) {
		make := o.NewPacker
		o.NewPacker = func() (spool.Packer, error) { made++; return make() }
	}
	if err := h.once(); err != nil || made != 0 {
		t.Errorf("%d packers for nothing to pack, %v", made, err)
	}
	h.record(good)
	if err := h.once(); err != nil || made != 1 {
		t.Errorf("%d packers for one small episode, %v", made, err)
	}
}

// TestRun_RefusalStopsBothSizes: a small and a large episode of a refused commit cost one
// refusal together.
func TestRun_RefusalStopsBothSizes(t *testing.T) {
	for range 20 {
		r := clienttest.Start(t, nil)
		r.Refuse(bad, wire.NewProblem(wire.Gated, "not you"))
		h := newHost(t, r)
		large := h.record(bad)
		h.sparse(large, 65<<20)
		h.record(bad)
		s, stop := h.run()
		h.until("both are held", func() bool { return s.Queue().Held == 2 })
		stop()
		refused := 0
		for _, p := range r.Puts() {
			if p.Status == http.StatusPreconditionFailed {
				refused++
			}
		}
		if refused != 1 {
			t.Fatalf("%d refusals, want 1", refused)
		}
	}
}

// TestOnce_BeyondTheLimits: an episode over the limits of readers is quarantined at once,
// with the reason.
func TestOnce_BeyondTheLimits(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	huge, many, other := h.record(good), h.record(good), h.record(good)
	h.sparse(huge, 8<<40)
	for n := range 10_000 {
		if err := os.Link(filepath.Join(h.dir, "episodes", string(many), episode.MetaFile), filepath.Join(h.dir, "episodes",
			string(many), strings.Repeat("x", 1+n/200)+string(rune('a'+n%200)))); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := h.once(); err != nil {
		t.Fatal(err)
	}
	sp := &spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}
	for id, want := range map[ident.EpisodeID]string{huge: "larger than the limit", many: "more than 10000 files"} {
		if reason, err := sp.ReasonOf(id); err != nil || reason.Kind != spool.Unpackable || !strings.Contains(reason.Detail, want) {
			t.Errorf("%s: %+v, %v; want %q", id, reason, err, want)
		}
	}
	if r.Stored()[other] == "" || len(r.Stored()) != 1 {
		t.Errorf("stored %v", r.Stored())
	}
	t.Logf("took %s", time.Since(start))
}

// TestRun_StuckFolder: a folder that its owner has closed delays no other episode, is not
// sent again, not even after a restart, and is reported; once it is open it is moved.
func TestRun_StuckFolder(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	h.cfg.Ship.ScanEvery = config.Duration(50 * time.Millisecond)
	id := h.record(good)
	c := &closable{FS: disk.OS{}, folder: filepath.Join(h.dir, "episodes", string(id))}
	h.fs = c
	h.opts = func(o *ship.Options) { o.Receiver = closes{o.Receiver, c} }
	for range 3 {
		_, stop := h.run()
		after := h.record(good)
		h.until("the others are shipped", func() bool { return r.Stored()[after] != "" && len(h.names("episodes")) == 1 })
		stop()
	}
	if n := len(r.Puts()); n != 4 {
		t.Errorf("%d uploads of 4 episodes", n)
	}
	found, err := (&spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}).Scan(func(ident.EpisodeID) bool { return false })
	if err != nil || len(found.Stuck) != 1 || found.Stuck[0] != id {
		t.Errorf("found %+v, %v; want one that is stuck", found, err)
	}
	c.closed.Store(false)
	_, stop := h.run()
	h.until("it is gone", func() bool { return len(h.names("episodes")) == 0 })
	stop()
}
