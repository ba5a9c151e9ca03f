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

// askReconcile wakes the loop for a store that is another.
func (s *Shipper) askReconcile() {
	s.mu.Lock()
	s.reconcileAfter = time.Time{}
	s.mu.Unlock()
	select {
	case s.reconcile <- struct{}{}:
	default:
	}
}

// makeRoom asks for a reconcile, and for what it confirms to be removed, oldest
// first, until so many bytes are free.
func (s *Shipper) makeRoom(bytes int64) {
	s.mu.Lock()
	s.room = max(s.room, bytes)
	s.mu.Unlock()
	select {
	case s.reconcile <- struct{}{}:
	default:
	}
}

// reconcileLoop compares shipped/ with the receiver, daily and when its store is
// another, from the first pong on.
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
		s.pulse.busy("reconcile")
		err := s.reconcileOnce(ctx, storeID)
		s.pulse.idle("reconcile")
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

// nextReconcile returns when the next one is due (zero: not before a pong), and
// with which store.
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
	if with != pong.StoreID || last.After(now) || room > 0 { // also if the clock was wrong
		at = now
	}
	if after.After(at) {
		at = after
	}
	return at, pong.StoreID
}

// reconcileOnce asks which shipped episodes the store has, sends again what it
// has not, and removes of what it has the oldest beyond the limits.
func (s *Shipper) reconcileOnce(ctx context.Context, storeID string) error {
	rows, err := s.Spool.Shipped()
	if err != nil {
		return err
	}
	var confirmed []spool.Row
	var again int
	for part := range slices.Chunk(rows, wire.MaxPairs) {
		s.pulse.advance("reconcile")
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
				continue // its directory is not out of the way yet
			}
			if err := s.Spool.PutBack(r, storeID); err != nil {
				return err
			}
			s.pulse.advance("reconcile")
			again++
			s.Logger.Warn("receiver has lost an episode; it is sent again", "host", s.Host, "episode", r.Episode, "digest", r.Digest)
			s.queue.add(r.Episode, s.Spool.Look(r.Episode))
		}
	}
	removed, err := s.prune(confirmed)
	if err != nil {
		return err
	}
	if err := s.expire(); err != nil {
		return err
	}
	if err := s.Spool.Shorten(); err != nil { // another day
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

// atMost returns the earlier of this clock's time and the receiver's: a clock that is
// ahead must not make anything old that is then removed for good.
func (s *Shipper) atMost() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Now().Add(-max(s.ahead, 0))
}

// prune removes the oldest of the confirmed beyond what is to be kept, and what
// stands in the way of new episodes.
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
		s.pulse.advance("reconcile")
		total -= r.Size
		room -= r.Size
		removed++
	}
	return removed, nil
}

// expire removes what was set aside longer ago than it is to be kept; conflicts
// stay, as nobody else has their content.
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
		if err := s.Spool.Discard(id); err != nil { // its owner may have closed it
			s.Logger.Warn("episode not discarded; that is tried again", "host", s.Host, "episode", id, "err", err)
			continue
		}
		s.Logger.Warn("episode discarded; it was set aside too long", "host", s.Host, "episode", id, "err", r.Detail)
	}
	return nil
}
