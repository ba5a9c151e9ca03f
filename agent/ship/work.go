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

// packLoop packs the episodes of a class, at low priority so that recordings go first.
func (s *Shipper) packLoop(ctx context.Context, c class) {
	wake := s.queue.watch()
	worker := "pack " + c.String()
	var packer spool.Packer
	for ctx.Err() == nil {
		e, again := s.queue.take(s.Now(), c, waiting, packing)
		if e == nil {
			if c == large {
				packer = nil // frees its buffers; large episodes are rare
			}
			if !s.sleep(ctx, again, wake) {
				return
			}
			continue
		}
		s.watchdog.busy(worker)
		if packer == nil {
			var err error
			if packer, err = s.NewPacker(); err != nil {
				s.packLater(e, err)
				s.watchdog.idle(worker)
				continue
			}
		}
		atLowPriority(func() {
			s.pack(ctx, e, spool.Packing{Packer: packer, Most: c.most(), Moved: func(int) { s.watchdog.advance(worker) }})
		})
		s.watchdog.idle(worker)
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
			Fix: "on the lab host: sudo cis490 episode retry " + string(e.id) + "   # once the file is repaired or deleted",
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
		s.Logger.Warn("episode not found; its directory was removed", "host", s.Host, "episode", e.id)
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

// damaged quarantines an episode that arrived damaged and cannot be packed again, with
// its tarball. The tarball may be intact and the network at fault, so it may be retried.
func (s *Shipper) damaged(e *entry, k wire.Kind, detail string) {
	s.markRefused(e.id)
	s.setAside(e, spool.Reason{
		Kind: k, Detail: detail, Digest: e.tarball.Digest, Commit: e.commit,
		Policy: s.policy(), Retry: true, Fix: "on the lab host: sudo cis490 episode retry " + string(e.id),
	})
}

// packLater delays an episode after a fault that it did not cause.
func (s *Shipper) packLater(e *entry, err error) {
	e.attempts++
	wait := s.wait(e.attempts)
	s.setLastReason(err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		s.makeRoom(max(2*e.bytes, 64<<20))
	}
	s.Logger.Warn("episode not packed; it waits", "host", s.Host, "episode", e.id, "attempt", e.attempts, "wait", wait, "err", err)
	s.queue.set(e, waiting, s.Now().Add(wait))
}

// policy returns the receiver's policy of the last pong.
func (s *Shipper) policy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pong == nil {
		return ""
	}
	return s.pong.Policy
}

// sendLoop sends the tarballs of a class, one at a time. Both classes share the semaphore
// door until the receiver has accepted a request or rejected it, which it does before the
// first byte. So a rejection that applies to other episodes, too, arrives before another
// one is sent.
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
		s.watchdog.busy(worker)
		letIn := sync.OnceFunc(func() { <-s.door })
		s.send(ctx, e, func() {
			letIn()
			s.watchdog.advance(worker)
		})
		letIn()
		s.watchdog.idle(worker)
	}
}

// nextToSend returns an episode to send now and acquires the door for it. With no such
// episode it returns when to try again; zero means after the next change.
func (s *Shipper) nextToSend(ctx context.Context, c class) (e *entry, until time.Time) {
	if s.nothingToSend(c) {
		return nil, time.Time{}
	}
	select {
	case s.door <- struct{}{}:
	case <-ctx.Done():
		return nil, time.Time{}
	}
	until, open := s.uplinkReady(ctx)
	if open {
		e, until = s.queue.take(s.Now(), c, packed, sending)
	}
	if e == nil {
		<-s.door
	}
	return e, until
}

// send uploads a tarball. It calls moves on progress, first when the receiver has accepted
// the request.
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
	//off:answer_OtherEncoder
	if err != nil && ActionOf(err) == wire.Conflict {
		r, found, aerr := s.askEarlier(ctx, t, store)
		if aerr != nil {
			err = aerr // unknown: the conflict is not final yet
		} else if found {
			receipt, created, err = r, false, nil
		}
	}
	if err != nil && ctx.Err() != nil {
		s.queue.set(e, packed, time.Time{})
		return
	}
	e.attempts++
	log := s.Logger.With("host", s.Host, "episode", e.id, "digest", t.Digest, "bytes", t.Size, "attempt", e.attempts,
		"dur", s.Now().Sub(start).Round(time.Millisecond))
	if err == nil {
		status := 200
		if created {
			status = 201
		}
		log.Info("episode shipped", "status", status)
		s.resetUplink()
		s.queue.set(e, retiring, time.Time{})
		select {
		case s.done <- spool.Acknowledged{Tarball: t, Receipt: receipt}:
		case <-ctx.Done(): // the next run sends it again and gets the same receipt
		}
		return
	}
	s.setLastReason(err)
	if errors.Is(err, client.ErrTarball) {
		// A local fault that may pass: the receiver did not reject the episode.
		e.repack = s.Spool.Done(e.id)
		wait := s.wait(e.attempts)
		log.Warn("cannot read the tarball; packing it again later", "wait", wait, "err", err, "fix", "on the lab host: sudo cis490 doctor")
		s.queue.set(e, waiting, s.Now().Add(wait))
		return
	}
	s.apply(e, err, policy, log)
	if ActionOf(err) == wire.HoldCommit {
		s.askHeld(ctx)
	}
}

// retireLoop moves acknowledged episodes to shipped/, in batches. It ends only when all
// acknowledged episodes are handled.
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
		s.watchdog.busy("retire")
		s.retire(batch)
		s.watchdog.idle("retire")
	}
}

func (s *Shipper) retire(batch []spool.Acknowledged) {
	if err := s.Spool.SaveReceipts(batch); err != nil {
		s.unsaved++
		wait := s.wait(s.unsaved)
		s.setLastReason(err)
		s.Logger.Warn("receipts not saved; sending the episodes again", "host", s.Host, "wait", wait, "err", err)
		for _, a := range batch {
			s.queue.set(s.queue.get(a.Tarball.Episode), waiting, s.Now().Add(wait))
		}
		return
	}
	s.unsaved = 0
	s.shippedNow()
	ids := make([]ident.EpisodeID, len(batch))
	for i, a := range batch {
		ids[i] = a.Tarball.Episode
	}
	together := s.Spool.Clear(ids...)
	for _, id := range ids {
		e := s.queue.markNoted(id)
		if together == nil {
			s.retired(e)
		} else { // one failed: clear each by itself
			s.clear(e)
		}
	}
}

// clear moves an episode with a durable receipt to shipped/. If that fails, it retries
// later; the episode is not sent again.
func (s *Shipper) clear(e *entry) {
	err := s.Spool.Clear(e.id)
	if errors.Is(err, spool.ErrStuck) {
		s.Logger.Warn("episode shipped, but its folder stays in the way; this is retried later", "host", s.Host, "episode",
			e.id, "err", err, "fix", "on the lab host: sudo cis490 doctor")
	} else if err != nil {
		e.attempts++
		wait := s.wait(e.attempts)
		s.setLastReason(err)
		s.Logger.Warn("episode shipped, but not moved out of the way; this is retried later", "host", s.Host, "episode", e.id,
			"wait", wait, "err", err, "fix", "on the lab host: sudo cis490 doctor")
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

// shippedNow records the time of the last success, and saves it at most every ten seconds.
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

// setLastReason records why an episode waits.
func (s *Shipper) setLastReason(err error) {
	s.mu.Lock()
	s.lastReason = err
	s.mu.Unlock()
}

// wait returns how long an episode waits after its n-th fault.
func (s *Shipper) wait(n int) time.Duration {
	limit := 10 * time.Minute
	if n < 10 {
		limit = min(limit, time.Second<<n)
	}
	return max(s.uplink.jitter(limit), 100*time.Millisecond)
}

// fixOf returns the commands that fix an error.
func fixOf(err error) string {
	if p := refusal(err); p != nil {
		return p.Fix
	}
	return fault.FixOf(err)
}
