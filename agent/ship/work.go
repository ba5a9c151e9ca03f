package ship

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"cis490/agent/client"
	"cis490/agent/spool"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// packLoop makes the tarballs of a class, at low priority so that recordings go first.
func (s *Shipper) packLoop(ctx context.Context, c class) {
	lowPriority()
	wake := s.queue.watch()
	worker := "pack " + c.String()
	var packer spool.Packer
	for ctx.Err() == nil {
		e, again := s.queue.take(s.Now(), c, waiting, packing)
		if e == nil {
			if c == large {
				packer = nil // its buffers are for the rare case
			}
			if !s.sleep(ctx, again, wake) {
				return
			}
			continue
		}
		s.pulse.busy(worker)
		if packer == nil {
			var err error
			if packer, err = s.NewPacker(); err != nil {
				s.packLater(e, err)
				s.pulse.idle(worker)
				continue
			}
		}
		s.pack(ctx, e, spool.Packing{Packer: packer, Most: c.most(), Moved: func(int) { s.pulse.advance(worker) }})
		s.pulse.idle(worker)
	}
}

func (s *Shipper) pack(ctx context.Context, e *entry, p spool.Packing) {
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
	if e.repack {
		t, err = s.Spool.Repack(ctx, p, e.tarball)
	} else {
		t, err = s.Spool.Tarball(ctx, p, e.id)
	}
	if _, ok := errors.AsType[*episode.Larger](err); ok {
		s.queue.grow(e)
		return
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
		s.damaged(e, wire.BadDigest, "the tarball arrived damaged and the directory to pack it from is gone")
	case errors.Is(err, spool.ErrChanged):
		s.damaged(e, spool.Changed, "the tarball arrived damaged and "+err.Error())
	case errors.Is(err, fs.ErrNotExist):
		s.Logger.Warn("episode is gone; somebody removed it", "host", s.Host, "episode", e.id)
		s.queue.drop(e)
	case err != nil:
		s.packLater(e, err)
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

// damaged sets an episode aside, with its tarball, that cannot be packed again. It may
// be the way that damages it: whole, it can go out another time.
func (s *Shipper) damaged(e *entry, k wire.Kind, detail string) {
	s.freshly(e.id)
	s.setAside(e, spool.Reason{
		Kind: k, Detail: detail, Digest: e.tarball.Digest, Commit: e.commit,
		Policy: s.policy(), Retry: true, Fix: "on the lab host: sudo cis490 episode retry " + string(e.id),
	})
}

// packLater lets an episode wait for a while upon a fault that is not its own.
func (s *Shipper) packLater(e *entry, err error) {
	e.attempts++
	wait := s.wait(e.attempts)
	s.note(err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		s.makeRoom(max(2*e.bytes, 64<<20))
	}
	s.Logger.Warn("episode not packed; it waits", "host", s.Host, "episode", e.id, "attempt", e.attempts, "wait", wait, "err", err)
	s.queue.set(e, waiting, s.Now().Add(wait))
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

// sendLoop sends the tarballs of a class, one at a time. Both classes share the door:
// a refusal comes before the receiver asks for the first byte, so one that holds for
// others too is heard before they are sent.
func (s *Shipper) sendLoop(ctx context.Context, c class) {
	wake := s.queue.watch()
	worker := "send " + c.String()
	for ctx.Err() == nil {
		e, until := s.nextToSend(ctx, c)
		if e == nil {
			if !s.sleep(ctx, until, wake) {
				return
			}
			continue
		}
		s.pulse.busy(worker)
		letIn := sync.OnceFunc(func() { <-s.door })
		s.send(ctx, e, func() {
			letIn()
			s.pulse.advance(worker)
		})
		letIn()
		s.pulse.idle(worker)
	}
}

// nextToSend returns an episode that may go out now, and holds the door for it, or
// otherwise when to look again (zero: after a change).
func (s *Shipper) nextToSend(ctx context.Context, c class) (e *entry, until time.Time) {
	select {
	case s.door <- struct{}{}:
	case <-ctx.Done():
		return nil, time.Time{}
	}
	until, open := s.openLane(ctx)
	if open {
		e, until = s.queue.take(s.Now(), c, packed, sending)
	}
	if e == nil {
		<-s.door
	}
	return e, until
}

// send uploads a tarball; moves is called as it goes, the first time when the receiver
// has asked for it.
func (s *Shipper) send(ctx context.Context, e *entry, moves func()) {
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
			moves()
			s.mu.Lock()
			s.moved.Bytes += int64(n)
			s.moved.Whole += int64(float64(e.bytes) * float64(n) / float64(t.Size))
			s.mu.Unlock()
		},
	})
	if err != nil && ActionOf(err) == wire.Conflict {
		r, found, aerr := s.askEarlier(ctx, t, store)
		if aerr != nil {
			err = aerr // nothing is concluded before it is known
		} else if found {
			receipt, created, err = r, false, nil
		}
	}
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
	if ActionOf(err) == wire.HoldCommit {
		s.askHeld(ctx)
	}
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
		s.unnoted++
		wait := s.wait(s.unnoted)
		s.note(err)
		s.Logger.Warn("receipts not noted; the episodes stay and are sent again", "host", s.Host, "wait", wait, "err", err)
		for _, a := range batch {
			s.queue.set(s.queue.get(a.Tarball.Episode), waiting, s.Now().Add(wait))
		}
		return
	}
	s.unnoted = 0
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
	err := s.Spool.Clear(e.id)
	if errors.Is(err, spool.ErrStuck) {
		s.Logger.Warn("episode shipped, but its folder stays in the way; that is tried again", "host", s.Host, "episode",
			e.id, "err", err, "fix", "on the lab host: sudo cis490 doctor")
	} else if err != nil {
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
