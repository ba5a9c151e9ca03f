package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cis490/agent/client/clienttest"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// lose makes the receiver store an episode whose answer is lost.
func (h *host) lose(r *clienttest.Receiver, id ident.EpisodeID) {
	h.t.Helper()
	r.LosesAnswer = func(ident.EpisodeID) bool { return true }
	if err := h.once(); err == nil || r.Stored()[id] == "" {
		h.t.Fatalf("%v, stored: %v", err, r.Stored())
	}
	r.LosesAnswer = nil
}

// concluded reports whether an episode is shipped, and nothing of it waits or is
// quarantined.
func (h *host) concluded(id ident.EpisodeID) {
	h.t.Helper()
	if got := h.names("quarantine"); len(got) != 0 {
		h.t.Errorf("set aside: %v", got)
	}
	if !slices.Contains(h.names("shipped"), string(id)+wire.TarballSuffix) ||
		slices.Contains(h.names("outbox"), string(id)+wire.TarballSuffix) {
		h.t.Errorf("not concluded: outbox %v, shipped %v", h.names("outbox"), h.names("shipped"))
	}
}

// TestHeld_StoredIsConcluded: an episode that was stored, but whose answer was lost, gets
// its receipt although its commit is held; one that is not stored still waits.
func TestHeld_StoredIsConcluded(t *testing.T) {
	for name, then := range map[string]func(h *host) error{
		"held in this run": func(h *host) error { return h.once() },
		"held before a restart": func(h *host) error {
			_ = h.once()
			return h.once()
		},
		"receiver out of reach when it is asked first": func(h *host) error {
			real := h.opts
			h.opts = func(o *ship.Options) { o.Receiver = noReconcile{o.Receiver} }
			_ = h.once()
			h.opts = real
			return h.once()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := clienttest.Start(t, nil)
			h := newHost(t, r)
			h.n = 1
			stored := h.record(good)
			h.lose(r, stored)
			h.n = 0
			older := h.record(good)
			r.Refuse(good, wire.NewProblem(wire.Gated, "not you"))
			err := then(h)
			if left, ok := errors.AsType[*ship.LeftError](err); !ok || left.Queue.Held != 1 || left.Queue.Waiting != 0 {
				t.Errorf("left: %v", err)
			}
			h.concluded(stored)
			if !slices.Contains(h.names("outbox"), string(older)+wire.TarballSuffix) {
				t.Error("what is not stored does not wait")
			}
		})
	}
}

// noReconcile fails every reconcile.
type noReconcile struct{ ship.Receiver }

func (noReconcile) Reconcile(context.Context, []wire.Pair) (wire.Reconciled, error) {
	return wire.Reconciled{}, errors.New("no route to host")
}

// encoder packs the same content to other bytes, as another version of zstd does.
type encoder struct{ spool.Packer }

func (p encoder) Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error) {
	var b bytes.Buffer
	packed, err := p.Packer.Pack(ctx, &b, src)
	if err != nil {
		return packed, err
	}
	b.Write([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}) // a frame that is skipped
	packed.Digest, packed.Size = digestOf(b.Bytes()), int64(b.Len())
	_, err = w.Write(b.Bytes())
	return packed, err
}

// TestConflict_EarlierIsAskedFor: stored, answer lost, and packed again by another encoder:
// the receiver is asked for the earlier digest before anything is concluded.
func TestConflict_EarlierIsAskedFor(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	id := h.record(good)
	h.lose(r, id)
	if err := os.Remove(filepath.Join(h.dir, "outbox", string(id)+wire.TarballSuffix)); err != nil {
		t.Fatal(err)
	}
	another := func(o *ship.Options) {
		o.NewPacker = func() (spool.Packer, error) {
			p, err := episode.NewPacker()
			return encoder{p}, err
		}
	}
	h.opts = func(o *ship.Options) {
		another(o)
		o.Receiver = noReconcile{o.Receiver}
	}
	if err := h.once(); err == nil {
		t.Error("concluded without an answer")
	}
	if got := h.names("quarantine"); len(got) != 0 {
		t.Fatalf("set aside before it was asked: %v", got)
	}
	h.opts = another
	if err := h.once(); err != nil {
		t.Error(err)
	}
	h.concluded(id)

	// A store that loses it is sent the local tarball, and that is not a conflict either.
	r.Forget(id)
	sp := &spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}
	rows, err := sp.Shipped()
	if err != nil || len(rows) != 1 || rows[0].Packed == "" || rows[0].Packed == rows[0].Digest {
		t.Errorf("%+v %v", rows, err)
	}
}

// TestConflict_OtherContent: different content stays a conflict.
func TestConflict_OtherContent(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	id := h.record(good)
	h.lose(r, id)
	err := errors.Join(os.Remove(filepath.Join(h.dir, "outbox", string(id)+wire.TarballSuffix)),
		os.WriteFile(filepath.Join(h.dir, "episodes", string(id), "telemetry-proc.jsonl"), []byte("{}\n"), 0o660))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.once(); err != nil {
		t.Error(err)
	}
	if got := h.names("quarantine"); len(got) != 1 {
		t.Errorf("quarantine: %v", got)
	}
}
