package ship

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"cis490/agent/client"
	"cis490/agent/spool"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// packLoop makes tarballs, at low priority so that recordings go first.
func (s *Shipper) packLoop(ctx context.Context) {
	lowPriority()
	wake := s.queue.watch()
	for ctx.Err() == nil {
		e, again := s.queue.take(s.Now(), waiting, packing)
		if e == nil {
			if !s.sleep(ctx, again, wake) {
				return
			}
			continue
		}
		s.pulse.busy("pack")
		s.pack(ctx, e)
		s.pulse.idle("pack")
	}
}

func (s *Shipper) pack(ctx context.Context, e *entry) {
	if e.aside != nil {
		s.setAside(e, *e.aside)
		return
	}
	if e.noted {
		s.clear(e)
		return
	}
	var t spool.Tarball
	var err error
	moved := func(int) { s.pulse.advance("pack") }
	if e.repack {
		t, err = s.Spool.Repack(ctx, s.Packer, e.id, moved)
	} else {
		t, err = s.Spool.Tarball(ctx, s.Packer, e.id, moved)
	}
	if u, ok := errors.AsType[*episode.Unpackable](err); ok {
		s.setAside(e, spool.Reason{
			Kind: spool.Unpackable, Detail: u.Error(),
			Fix: "on the lab host: sudo cis490 episode retry " + string(e.id) + "   # once the file is mended or deleted",
		})
		return
	}
	switch {
	case ctx.Err() != nil:
		s.queue.set(e, waiting, time.Time{})
	case errors.Is(err, fs.ErrNotExist) && e.repack:
		// It may be the way that damages it: whole, it can go out another time.
		s.freshly(e.id)
		s.setAside(e, spool.Reason{
			Kind: wire.BadDigest, Detail: "the tarball arrived damaged and the directory to pack it from is gone", Digest: e.tarball.Digest, Commit: e.commit,
			Policy: s.policy(), Retry: true, Fix: "on the lab host: sudo cis490 episode retry " + string(e.id),
		})
	case errors.Is(err, fs.ErrNotExist):
		s.Logger.Warn("episode is gone; somebody removed it", "host", s.Host, "episode", e.id)
		s.queue.drop(e)
	case err != nil:
		e.attempts++
		wait := s.wait(e.attempts)
		s.note(err)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			s.makeRoom(max(2*e.bytes, 64<<20))
		}
		s.Logger.Warn("episode not packed; it waits", "host", s.Host, "episode", e.id, "attempt", e.attempts, "wait", wait, "err", err)
		s.queue.set(e, waiting, s.Now().Add(wait))
	default:
		s.queue.mu.Lock()
		e.tarball, e.repack = t, false
		if t.Commit != "" {
			e.commit = t.Commit
		}
		s.queue.mu.Unlock()
		s.queue.set(e, packed, e.notBefore)
	}
}

// policy returns the receiver's as of the last pong.
func (s *Shipper) policy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pong == nil {
		return ""
	}
	return s.pong.Policy
}

// sendLoop sends one tarball at a time, so that a refusal that holds for others
// too is heard before they are sent.
func (s *Shipper) sendLoop(ctx context.Context) {
	wake := s.queue.watch()
	for ctx.Err() == nil {
		until, open := s.openLane(ctx)
		if !open {
			if !s.sleep(ctx, until, wake) {
				return
			}
			continue
		}
		e, again := s.queue.take(s.Now(), packed, sending)
		if e == nil {
			if !s.sleep(ctx, again, wake) {
				return
			}
			continue
		}
		s.pulse.busy("send")
		s.send(ctx, e)
		s.pulse.idle("send")
	}
}

func (s *Shipper) send(ctx context.Context, e *entry) {
	t := e.tarball
	start := s.Now()
	s.mu.Lock()
	store, policy := s.pong.StoreID, s.pong.Policy
	s.mu.Unlock()
	receipt, created, err := s.Receiver.Put(ctx, client.Tarball{
		Episode: t.Episode, Digest: t.Digest, Size: t.Size, Commit: t.Commit, Store: store,
		Open: func() (io.ReadCloser, error) {
			r, err := s.Spool.OpenTarball(t.Episode)
			if err != nil {
				return nil, err
			}
			return s.limited(ctx, r), nil
		},
		Sent: func(n int) {
			s.pulse.advance("send")
			s.mu.Lock()
			s.moved.Bytes += int64(n)
			s.moved.Whole += int64(float64(e.bytes) * float64(n) / float64(t.Size))
			s.mu.Unlock()
		},
	})
	if err != nil && ctx.Err() != nil {
		s.queue.set(e, packed, time.Time{})
		return
	}
	e.attempts++
	log := s.Logger.With("host", s.Host, "episode", e.id, "digest", t.Digest, "bytes", t.Size, "attempt", e.attempts, "dur", s.Now().Sub(start).Round(time.Millisecond))
	if err == nil {
		status := 200
		if created {
			status = 201
		}
		log.Info("episode shipped", "status", status)
		s.settled()
		s.queue.set(e, retiring, time.Time{})
		select {
		case s.done <- spool.Acknowledged{Tarball: t, Receipt: receipt}:
		case <-ctx.Done(): // it is sent again and answered with the same receipt
		}
		return
	}
	s.note(err)
	if errors.Is(err, client.ErrTarball) {
		// This host's fault, and not for ever: nobody has refused the episode.
		e.repack = s.Spool.Done(e.id)
		wait := s.wait(e.attempts)
		log.Warn("tarball cannot be read; it waits to be packed again", "wait", wait, "err", err, "fix", "on the lab host: sudo cis490 doctor")
		s.queue.set(e, waiting, s.Now().Add(wait))
		return
	}
	s.apply(e, err, policy, log)
}

// retireLoop takes acknowledged episodes out of the way, those that come at the
// same time together. It ends only when all that were acknowledged are handled.
func (s *Shipper) retireLoop(ctx context.Context) {
	for {
		var batch []spool.Acknowledged
		select {
		case a := <-s.done:
			batch = append(batch, a)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < cap(s.done); {
			select {
			case a := <-s.done:
				batch = append(batch, a)
			default:
				more = false
			}
		}
		s.pulse.busy("retire")
		s.retire(batch)
		s.pulse.idle("retire")
	}
}

func (s *Shipper) retire(batch []spool.Acknowledged) {
	if err := s.Spool.Note(batch); err != nil {
		wait := s.wait(1)
		s.note(err)
		s.Logger.Warn("receipts not noted; the episodes stay and are sent again", "host", s.Host, "wait", wait, "err", err)
		for _, a := range batch {
			s.queue.set(s.queue.get(a.Tarball.Episode), waiting, s.Now().Add(wait))
		}
		return
	}
	s.shippedNow()
	ids := make([]ident.EpisodeID, len(batch))
	for i, a := range batch {
		ids[i] = a.Tarball.Episode
	}
	together := s.Spool.Clear(ids...)
	for _, id := range ids {
		e := s.queue.note(id)
		if together == nil {
			s.retired(e)
		} else { // one of them must not keep the others
			s.clear(e)
		}
	}
}

// clear moves an episode, whose receipt is noted, out of the way. If that fails it is
// tried again later; the episode is not sent again.
func (s *Shipper) clear(e *entry) {
	if err := s.Spool.Clear(e.id); err != nil {
		e.attempts++
		wait := s.wait(e.attempts)
		s.note(err)
		s.Logger.Warn("episode shipped, but not moved out of the way; that is tried again", "host", s.Host, "episode", e.id, "wait", wait, "err", err, "fix", "on the lab host: sudo cis490 doctor")
		s.queue.set(e, waiting, s.Now().Add(wait))
		return
	}
	s.retired(e)
}

func (s *Shipper) retired(e *entry) {
	s.mu.Lock()
	s.moved.Episodes++
	s.mu.Unlock()
	s.queue.drop(e)
}

// shippedNow notes the time of the last success, on disk not more often than
// doctor needs.
func (s *Shipper) shippedNow() {
	now := s.Now().UTC().Round(0)
	s.stateMu.Lock()
	s.state.LastShipped = now
	fresh := now.Sub(s.savedAt).Abs() < 10*time.Second
	s.stateMu.Unlock()
	if !fresh {
		s.remember(func(*spool.State) {})
	}
}

// note keeps the last reason for which something was left.
func (s *Shipper) note(err error) {
	s.mu.Lock()
	s.lastReason = err
	s.mu.Unlock()
}

// wait returns how long one episode waits by itself after its n-th fault.
func (s *Shipper) wait(n int) time.Duration {
	limit := 10 * time.Minute
	if n < 10 {
		limit = min(limit, time.Second<<n)
	}
	return max(s.lane.jitter(limit), 100*time.Millisecond)
}

// fixOf returns what to paste against an error.
func fixOf(err error) string {
	if p := refusal(err); p != nil {
		return p.Fix
	}
	return fault.FixOf(err)
}
