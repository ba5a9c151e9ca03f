package ship_test

import (
	"context"
	"errors"
	"fmt"
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

// receipts returns the episodes that receipts.jsonl has, each as often as it has it.
func (h *host) receipts() (ids []ident.EpisodeID) {
	h.t.Helper()
	sp := &spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}
	rows, err := sp.Shipped()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range rows {
		ids = append(ids, r.Episode)
	}
	return ids
}

// doubling answers a reconcile twice over, and for episodes that nobody asked for.
type doubling struct{ ship.Receiver }

func (d doubling) Reconcile(ctx context.Context, pairs []wire.Pair) (wire.Reconciled, error) {
	r, err := d.Receiver.Reconcile(ctx, pairs)
	r.Stored = append(append(r.Stored, r.Stored...), ident.EpisodeID(fmt.Sprintf("01J%023d", 99)))
	return r, err
}

// TestHeld_DoubledAnswer: an answer that names an episode twice, or one that was not asked
// for, concludes what was asked for once, and nothing else.
func TestHeld_DoubledAnswer(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	h.n = 1
	stored := h.record(good)
	h.lose(r, stored)
	h.n = 0
	other := h.record(good) // older: with it the commit is held first
	r.Refuse(good, wire.NewProblem(wire.Gated, "not you"))
	h.opts = func(o *ship.Options) { o.Receiver = doubling{o.Receiver} }
	for range 2 { // the answer comes again in the next run
		_ = h.once()
	}
	h.concluded(stored)
	if got := h.receipts(); !slices.Equal(got, []ident.EpisodeID{stored}) {
		t.Errorf("receipts: %v", got)
	}
	if !slices.Contains(h.names("outbox"), string(other)+wire.TarballSuffix) {
		t.Error("what is not stored does not wait")
	}
}

// TestHeld_ReceiverRestored: the receiver is restored from a backup of before the upload
// whose answer was lost. The episode is not concluded, waits while its commit is held, and
// is sent once that is over; what had been concluded before the restore is sent again.
func TestHeld_ReceiverRestored(t *testing.T) {
	for name, concluded := range map[string]bool{"before it was asked": false, "after it was concluded": true} {
		t.Run(name, func(t *testing.T) {
			r := clienttest.Start(t, nil)
			h := newHost(t, r)
			h.n = 1
			lost := h.record(good)
			h.lose(r, lost)
			h.n = 0
			h.record(good) // older: with it the commit is held first
			r.Refuse(good, wire.NewProblem(wire.Gated, "not you"))
			if concluded {
				_ = h.once()
				h.concluded(lost)
			}
			r.Forget(lost)
			r.Become("restored", "policy-1")
			_ = h.once()
			_, stop := h.run()
			h.until("it waits", func() bool { return slices.Contains(h.names("outbox"), string(lost)+wire.TarballSuffix) })
			stop()
			if r.Stored()[lost] != "" {
				t.Fatal("sent although its commit is held")
			}
			r.Refuse(good, nil)
			r.Become("restored", "policy-2")
			_, stop = h.run()
			h.until("it is stored again", func() bool { return r.Stored()[lost] != "" })
			h.until("it is concluded", func() bool { return len(h.names("outbox")) == 0 })
			stop()
			h.concluded(lost)
		})
	}
}

// TestConflict_EmptiedOutbox: stored, answer lost, and the outbox emptied by hand, with the
// digest of what was sent. Packed again to the same bytes it is the same episode; to others,
// it is a conflict, whose content stays here with the reason.
func TestConflict_EmptiedOutbox(t *testing.T) {
	for name, another := range map[string]bool{"the same encoder": false, "another encoder": true} {
		t.Run(name, func(t *testing.T) {
			r := clienttest.Start(t, nil)
			h := newHost(t, r)
			id := h.record(good)
			h.lose(r, id)
			for _, left := range h.names("outbox") {
				if err := os.RemoveAll(filepath.Join(h.dir, "outbox", left)); err != nil {
					t.Fatal(err)
				}
			}
			if another {
				h.opts = func(o *ship.Options) {
					o.NewPacker = func() (spool.Packer, error) {
						p, err := episode.NewPacker()
						return encoder{p}, err
					}
				}
			}
			if err := h.once(); err != nil && !errors.As(err, new(*ship.LeftError)) {
				t.Error(err)
			}
			if !another {
				h.concluded(id)
				return
			}
			if got := h.names("quarantine"); !slices.Contains(got, string(id)) {
				t.Fatalf("quarantine: %v", got)
			}
			reason, err := (&spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}).ReasonOf(id)
			if err != nil || reason.Kind != wire.OtherDigest {
				t.Errorf("%+v %v", reason, err)
			}
			for _, kept := range []string{"episode/telemetry-proc.jsonl"} {
				if _, err := os.Stat(filepath.Join(h.dir, "quarantine", string(id), kept)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
