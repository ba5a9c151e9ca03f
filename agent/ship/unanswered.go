package ship

import (
	"context"
	"slices"

	"cis490/agent/spool"
	"cis490/internal/wire"
)

// askHeld asks the receiver about held episodes that have a tarball. Held episodes are not
// sent again, and the answer to an earlier upload may be lost.
func (s *Shipper) askHeld(ctx context.Context) {
	s.mu.Lock()
	pong := s.pong
	s.mu.Unlock()
	//off:answer_CommitHeld
	if pong == nil {
		return
	}
	var rows []spool.Row
	for _, e := range s.queue.unasked() {
		if t, ok := s.Spool.PackedTarball(e.id); ok {
			rows = append(rows, spool.Row{Episode: e.id, Digest: t.Digest, Size: t.Size, Commit: t.Commit})
			continue
		}
		s.queue.markAsked(e.id)
	}
	for part := range slices.Chunk(rows, wire.MaxPairs) {
		stored, err := s.ask(ctx, part, pong.StoreID)
		if err != nil {
			if ctx.Err() == nil {
				s.Logger.Warn("held episodes not asked for; this is retried later", "host", s.Host, "episodes", len(rows), "err", err)
			}
			return
		}
		for _, r := range part {
			e := s.queue.markAsked(r.Episode)
			if !stored[r.Episode] || e == nil || !s.queue.conclude(e) {
				continue
			}
			s.Logger.Info("episode was shipped; its answer was lost", "host", s.Host, "episode", r.Episode, "digest", r.Digest)
			t := spool.Tarball{Episode: r.Episode, Digest: r.Digest, Size: r.Size, Commit: r.Commit}
			select {
			case s.done <- spool.Acknowledged{Tarball: t, Receipt: s.receiptOf(t, pong.StoreID)}:
			case <-ctx.Done(): // the next run asks again
				return
			}
		}
	}
}

// askEarlier asks whether the store has an earlier tarball of the episode, made by another
// encoder, and returns its receipt.
func (s *Shipper) askEarlier(ctx context.Context, t spool.Tarball, storeID string) (r wire.Receipt, found bool, err error) {
	for _, d := range t.Earlier {
		stored, err := s.ask(ctx, []spool.Row{{Episode: t.Episode, Digest: d}}, storeID)
		if err != nil {
			return r, false, err
		}
		if stored[t.Episode] {
			r = s.receiptOf(t, storeID)
			r.Digest = d
			return r, true, nil
		}
	}
	return r, false, nil
}

// receiptOf makes the receipt of an episode that a reconcile confirmed.
func (s *Shipper) receiptOf(t spool.Tarball, storeID string) wire.Receipt {
	return wire.Receipt{Host: s.Host, Episode: t.Episode, Digest: t.Digest, Size: t.Size, StoreID: storeID}
}
