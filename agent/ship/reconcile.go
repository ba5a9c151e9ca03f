package ship

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cis490/agent/spool"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// requestReconcile wakes reconcileLoop after the store changed.
func (s *Shipper) requestReconcile() {
	s.mu.Lock()
	s.reconcileAfter = time.Time{}
	s.mu.Unlock()
	select {
	case s.reconcile <- struct{}{}:
	default:
	}
}

// makeRoom requests a reconcile that removes confirmed episodes, oldest first, until the
// given number of bytes is free.
func (s *Shipper) makeRoom(bytes int64) {
	s.mu.Lock()
	s.room = max(s.room, bytes)
	s.mu.Unlock()
	select {
	case s.reconcile <- struct{}{}:
	default:
	}
}

// reconcileLoop compares shipped/ with the receiver's store, daily and when the store
// changes, starting after the first pong.
func (s *Shipper) reconcileLoop(ctx context.Context) {
	attempt := 0
	for {
		next, _ := s.nextReconcile()
		if !s.sleep(ctx, next, s.reconcile) {
			return
		}
		next, storeID := s.nextReconcile()
		if next.IsZero() || next.After(s.Now()) {
			continue
		}
		s.watchdog.busy("reconcile")
		err := s.reconcileOnce(ctx, storeID)
		s.watchdog.idle("reconcile")
		if err == nil {
			attempt = 0
			continue
		}
		attempt++
		wait := s.wait(attempt + 4)
		s.mu.Lock()
		s.reconcileAfter = s.Now().Add(wait)
		s.mu.Unlock()
		if ctx.Err() == nil {
			s.Logger.Warn("not reconciled", "host", s.Host, "wait", wait, "err", err)
		}
	}
}

// nextReconcile returns when the next reconcile is due, and with which store. Zero means
// not before a pong.
func (s *Shipper) nextReconcile() (at time.Time, storeID string) {
	s.mu.Lock()
	pong, after, room := s.pong, s.reconcileAfter, s.room
	s.mu.Unlock()
	if pong == nil {
		return time.Time{}, ""
	}
	s.stateMu.Lock()
	last, with := s.state.ReconciledAt, s.state.StoreID
	s.stateMu.Unlock()
	now := s.Now()
	at = last.Add(s.Config.ReconcileEvery.D())
	if with != pong.StoreID || last.After(now) || room > 0 { // last.After(now): the clock was wrong
		at = now
	}
	if after.After(at) {
		at = after
	}
	return at, pong.StoreID
}

// reconcileOnce asks which shipped episodes the store has. It sends the missing ones again
// and prunes confirmed ones beyond the limits.
func (s *Shipper) reconcileOnce(ctx context.Context, storeID string) error {
	rows, err := s.Spool.Shipped()
	if err != nil {
		return err
	}
	var confirmed []spool.Row
	var again int
	for part := range slices.Chunk(rows, wire.MaxPairs) {
		s.watchdog.advance("reconcile")
		stored, err := s.ask(ctx, part, storeID)
		if err != nil {
			return err
		}
		for _, r := range part {
			if stored[r.Episode] {
				confirmed = append(confirmed, r)
				continue
			}
			if s.queue.knows(r.Episode) {
				continue // its directory is not moved yet
			}
			if err := s.Spool.PutBack(r, storeID); err != nil {
				return err
			}
			s.watchdog.advance("reconcile")
			again++
			s.Logger.Warn("receiver lost an episode; sending it again", "host", s.Host, "episode", r.Episode, "digest", r.Digest)
			s.queue.add(r.Episode, s.Spool.Describe(r.Episode))
		}
	}
	removed, err := s.prune(confirmed)
	if err != nil {
		return err
	}
	if err := s.expire(); err != nil {
		return err
	}
	if err := s.Spool.Shorten(); err != nil { // the next reconcile tries again
		s.Logger.Warn("receipts not shortened", "err", err)
	}
	s.remember(func(st *spool.State) { st.StoreID, st.ReconciledAt = storeID, s.Now().UTC().Round(0) })
	s.Logger.Info("reconciled", "host", s.Host, "stored", len(confirmed), "again", again, "removed", removed)
	return nil
}

func (s *Shipper) ask(ctx context.Context, rows []spool.Row, storeID string) (map[ident.EpisodeID]bool, error) {
	pairs := make([]wire.Pair, len(rows))
	for i, r := range rows {
		pairs[i] = wire.Pair{Episode: r.Episode, Digest: r.Digest}
	}
	answer, err := s.Receiver.Reconcile(ctx, pairs)
	if err != nil {
		return nil, err
	}
	if answer.StoreID != storeID {
		return nil, fmt.Errorf("the store is %.80q, not %.80q any more", answer.StoreID, storeID)
	}
	stored := make(map[ident.EpisodeID]bool, len(answer.Stored))
	for _, id := range answer.Stored {
		stored[id] = true
	}
	return stored, nil
}

// atMost returns the earlier of this host's time and the receiver's, because a clock that
// is ahead would let prune and expire delete too early.
func (s *Shipper) atMost() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Now().Add(-max(s.ahead, 0))
}

// prune removes the oldest confirmed episodes beyond the configured limits, and more of
// them where packing needs the space.
func (s *Shipper) prune(confirmed []spool.Row) (removed int, err error) {
	s.mu.Lock()
	room := s.room
	s.room = 0
	s.mu.Unlock()
	var total int64
	for _, r := range confirmed {
		total += r.Size
	}
	old := s.atMost().AddDate(0, 0, -s.Config.ShippedKeepDays)
	for _, r := range confirmed { // by age
		if !r.At.Before(old) && total <= int64(s.Config.ShippedKeepBytes) && room <= 0 {
			continue
		}
		if err := s.Spool.Prune(r.Episode); err != nil {
			return removed, err
		}
		s.watchdog.advance("reconcile")
		total -= r.Size
		room -= r.Size
		removed++
	}
	return removed, nil
}

// expire removes quarantined episodes after quarantine_keep_days. Conflicts stay, because
// no other copy of their content exists.
func (s *Shipper) expire() error {
	if s.Config.QuarantineKeepDays == 0 {
		return nil
	}
	ids, err := s.Spool.Quarantined()
	if err != nil {
		return err
	}
	old := s.atMost().AddDate(0, 0, -s.Config.QuarantineKeepDays)
	for _, id := range ids {
		r, err := s.Spool.ReasonOf(id)
		if err != nil || r.Kind == wire.OtherDigest || r.At.After(old) {
			continue
		}
		if err := s.Spool.Discard(id); err != nil { // the recorder's user may have removed our access
			s.Logger.Warn("episode not discarded; this is retried later", "host", s.Host, "episode", id, "err", err)
			continue
		}
		s.Logger.Warn("episode deleted; it was in quarantine too long", "host", s.Host, "episode", id, "err", r.Detail)
	}
	return nil
}
