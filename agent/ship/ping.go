package ship

import (
	"context"
	"errors"
	"time"

	"cis490/agent/client"
	"cis490/agent/spool"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// pingLoop pings the receiver at intervals, even when there is nothing to ship.
func (s *Shipper) pingLoop(ctx context.Context) {
	for {
		every := s.Config.PingEvery.D()
		if !s.sleep(ctx, s.Now().Add(every*9/10+s.uplink.jitter(every/5)), nil) {
			return
		}
		if s.Credentials.Ready() == nil {
			_ = s.ping(ctx) // ping logs the error
		}
	}
}

// ping sends this host's state to the receiver and handles the answer.
func (s *Shipper) ping(ctx context.Context) error {
	select {
	case s.pinging <- struct{}{}:
		defer func() { <-s.pinging }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.watchdog.busy("ping")
	defer s.watchdog.idle("ping")
	s.mu.Lock()
	s.refused = map[any]bool{}
	until := s.uplink.until
	s.mu.Unlock()
	pong, err := s.Receiver.Ping(ctx, s.report(ctx, false))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		s.setLastReason(err)
		rule := ruleOf(ActionOf(err))
		if !rule.pauses { // an action that only a newer receiver knows
			rule = ruleOf(wire.BackOff)
		}
		s.mu.Lock()
		// An upload's answer takes precedence: the receiver may have asked for this wait.
		closed := s.uplink.until.After(s.Now()) && !s.uplink.byPing
		s.mu.Unlock()
		if closed {
			s.Logger.Warn("ping not answered", "host", s.Host, "err", err, "fix", fixOf(err))
			return err
		}
		var after time.Duration
		if p := refusal(err); p != nil {
			after = time.Duration(p.RetryAfter) * time.Second
		}
		wait := s.pause(rule, after, err, true)
		s.Logger.Warn("ping not answered", "host", s.Host, "uploads_wait", wait, "err", err, "fix", fixOf(err))
		return err
	}
	s.handlePong(pong, until)
	s.askHeld(ctx)
	return nil
}

// report returns the body of a ping.
func (s *Shipper) report(ctx context.Context, leaving bool) wire.Ping {
	q := s.Queue()
	p := wire.Ping{
		Version: s.Build.Version, Commit: s.Build.Commit, BootID: s.BootID, Clock: s.Now().UTC(), Queue: q.Bounded(), Leaving: leaving,
	}
	if !leaving {
		p.Failing = s.Failing(ctx, q)
		p.OS, p.Arch, p.Hardware = s.Build.OS, s.Build.Arch, s.Hardware
		if s.Update != nil {
			p.Update = s.Update()
		}
	}
	return p
}

// handlePong retries rejected episodes when the policy changed, and reconciles when the
// store changed. until is the end of the uplink's wait when the ping was sent.
func (s *Shipper) handlePong(pong wire.Pong, until time.Time) {
	ahead := s.Now().Sub(pong.ServerTime)
	s.mu.Lock()
	s.ahead = ahead
	first := s.pong == nil
	changed := first || s.pong.Policy != pong.Policy
	otherStore := first || s.pong.StoreID != pong.StoreID
	recheck := s.recheck
	s.recheck = len(s.refused) > 0
	s.pong, s.uplink.ping = &pong, false
	byPing := s.uplink.byPing
	if s.uplink.action == wire.Hourly && s.uplink.until.Equal(until) {
		// The receiver accepts this host's credentials, and has not rejected them since.
		s.uplink.until = time.Time{}
	}
	s.mu.Unlock()
	if byPing {
		s.resetUplink()
	}
	if changed || recheck {
		s.newPolicy(pong.Policy)
	}
	//off:19_ReceiverRestored
	if otherStore {
		s.requestReconcile()
	}
	s.queue.poke()
}

// newPolicy releases what was rejected under another policy.
func (s *Shipper) newPolicy(policy string) {
	if free := s.queue.unhold(func(c ident.Commit, h spool.Hold) bool { return h.Policy != policy && !s.refusedSincePing(c) }); len(free) > 0 {
		s.Logger.Info("policy changed; held commits are tried again", "commits", len(free))
		s.remember(func(st *spool.State) {
			for _, c := range free {
				delete(st.Holds, c)
			}
		})
	}
	ids, err := s.Spool.Quarantined()
	if err != nil {
		s.Logger.Warn("quarantine not read", "err", err)
		return
	}
	for _, id := range ids {
		r, err := s.Spool.ReasonOf(id)
		if err != nil || !r.Retry || r.Policy == policy || s.refusedSincePing(id) {
			continue
		}
		s.watchdog.advance("ping")
		s.release(id)
	}
}

// markRefused records a rejection that a pong in flight may not reflect.
func (s *Shipper) markRefused(commitOrEpisode any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = map[any]bool{}
	}
	s.refused[commitOrEpisode], s.recheck = true, true
}

func (s *Shipper) refusedSincePing(commitOrEpisode any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused[commitOrEpisode]
}

func (s *Shipper) release(id ident.EpisodeID) {
	if err := s.Spool.Release(id); err != nil {
		s.Logger.Warn("episode stays in quarantine", "host", s.Host, "episode", id, "err", err)
		return
	}
	s.Logger.Info("policy changed; a refused episode is tried once more", "host", s.Host, "episode", id)
	s.queue.add(id, s.Spool.Describe(id))
}

// sleepLoop notifies the receiver before the machine sleeps, and pings after it resumes.
func (s *Shipper) sleepLoop(ctx context.Context) {
	if s.Sleeps == nil {
		return
	}
	err := s.Sleeps(ctx, func(asleep bool) {
		if asleep {
			s.Logger.Info("this machine goes to sleep", "host", s.Host)
			s.sendLeaving(ctx)
			return
		}
		s.markUnreached()
		if s.Credentials.Ready() == nil {
			_ = s.ping(ctx) // ping logs the error
		}
	})
	if err != nil && ctx.Err() == nil {
		s.Logger.Info("cannot report sleep to the receiver", "host", s.Host, "err", err)
	}
}

// leaveFor is how long a host that shuts down tries to notify the receiver: long enough for
// a receiver that restarts.
const leaveFor = 10 * time.Second

// sendLeaving reports a planned stop, so that the host's silence raises no alert.
func (s *Shipper) sendLeaving(ctx context.Context) {
	if s.Credentials.Ready() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveFor)
	defer cancel()
	for {
		_, err := s.Receiver.Ping(ctx, s.report(ctx, true))
		if err == nil {
			return
		}
		action := ActionOf(err)
		again := action == wire.Network || action == wire.BackOff || action == wire.Await
		if !again || !s.sleep(ctx, s.Now().Add(time.Second), nil) {
			s.Logger.Warn("cannot report the shutdown to the receiver", "host", s.Host, "err", err)
			return
		}
	}
}

// Unreachable gives an error of a request to the receiver its exit code.
func Unreachable(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, client.ErrNoCredentials) {
		return fault.Exit(err, fault.Unavailable) // it carries its own fix
	}
	if refusal(err) != nil {
		return fault.Exit(fault.Fix(err, fixOf(err)), fault.Failed)
	}
	return fault.Exit(fault.Fix(err, "check the network and [receiver] url in /etc/cis490/lab-host.toml, then: cis490 ship --ping"),
		fault.Unavailable)
}
