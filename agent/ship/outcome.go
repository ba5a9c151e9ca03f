package ship

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cis490/agent/spool"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// apply executes the rule for a rejection or a fault. policy is the receiver's policy when
// the episode was sent.
func (s *Shipper) apply(e *entry, err error, policy string, log *slog.Logger) {
	action := ActionOf(err)
	rule := ruleOf(action)
	p := refusal(err)
	if rule.settled {
		s.resetUplink()
	}
	if p != nil {
		log = log.With("status", p.Status, "fix", p.Fix)
		if p.Policy != "" { // newer than the last pong's
			policy = p.Policy
		}
	}
	switch action {
	case wire.Quarantine, wire.Conflict:
		log.Error("episode refused; moved to quarantine", "err", err)
		s.markRefused(e.id)
		s.setAside(e, reasonOf(p, e, policy))
	case wire.HoldCommit:
		//off:20_CaptivePortalAndGateWrong
		log.Error("commit refused; its episodes wait for the gate", "commit", e.commit, "err", err)
		s.markRefused(e.commit)
		h := spool.Hold{At: s.Now().UTC().Round(0), Policy: policy, Detail: p.Detail, Fix: p.Fix}
		s.remember(func(st *spool.State) {
			if st.Holds == nil {
				st.Holds = map[ident.Commit]spool.Hold{}
			}
			st.Holds[e.commit] = h
		})
		s.queue.hold(e.commit, h)
		s.queue.set(e, packed, time.Time{})
	case wire.Repack:
		if e.tarball.Repacked {
			log.Error("episode refused again after it was packed again; moved to quarantine", "err", err)
			s.markRefused(e.id)
			s.setAside(e, reasonOf(p, e, policy))
			return
		}
		log.Warn("episode arrived damaged; packing it again", "err", err)
		e.repack = true
		s.queue.set(e, waiting, time.Time{})
	default:
		retryAfter := 0
		if p != nil {
			retryAfter = p.RetryAfter
		}
		wait := s.pause(rule, time.Duration(retryAfter)*time.Second, err, false)
		log.Warn("episode not shipped; it waits", "wait", wait, "err", err)
		// Other episodes go first after the wait, in case this one caused the fault.
		notBefore := time.Time{}
		if action == wire.BackOff || action == wire.Await {
			notBefore = s.Now().Add(max(wait, min(s.wait(e.attempts), rule.most)))
		}
		s.queue.set(e, packed, notBefore)
	}
}

// pause stops uploads for a while; byPing means that the next pong ends the pause.
func (s *Shipper) pause(rule Rule, retryAfter time.Duration, err error, byPing bool) time.Duration {
	s.mu.Lock()
	wait := s.uplink.fail(s.Now(), rule, retryAfter)
	s.uplink.detail, s.uplink.byPing, s.uplink.serial = err.Error(), byPing, ""
	if rule.Action == wire.Network {
		s.uplink.ping = true // the next request is a cheap one
	}
	if rule.Action == wire.Hourly {
		s.uplink.serial = s.serial()
	}
	pause := s.uplink.pause()
	s.mu.Unlock()
	if pause != nil {
		s.remember(func(st *spool.State) { st.Pause = pause })
	}
	if rule.Action != wire.Hourly { // that is about this host's credentials
		s.markUnreached()
	}
	return wait
}

// markUnreached saves that nothing could be shipped until now, for a reason outside this
// host.
func (s *Shipper) markUnreached() {
	const often = 10 * time.Second // at most one save per this interval
	now := s.Now().UTC().Round(0)
	s.stateMu.Lock()
	noted := s.state.Unreached
	s.stateMu.Unlock()
	if now.Sub(noted).Abs() >= often {
		s.remember(func(st *spool.State) { st.Unreached = now })
	}
}

// resetUplink ends the uplink's wait, because the receiver answered.
func (s *Shipper) resetUplink() {
	s.mu.Lock()
	had := s.uplink.pause() != nil
	s.uplink.reset()
	s.mu.Unlock()
	if had {
		s.remember(func(st *spool.State) { st.Pause = nil })
	}
}

func (s *Shipper) serial() string {
	c, err := s.Credentials.Certificate()
	if err != nil {
		return ""
	}
	return c.SerialNumber.String()
}

// nothingToSend reports that the uplink need not be checked before the queue changes.
func (s *Shipper) nothingToSend(c class) bool {
	s.mu.Lock()
	calm := s.ready && !s.uplink.ping
	s.mu.Unlock()
	return calm && !s.queue.has(c, packed)
}

// uplinkReady reports whether an episode may be sent now, and if not, when to check again.
// It pings first where a pong is required.
func (s *Shipper) uplinkReady(ctx context.Context) (until time.Time, open bool) {
	const recheck = 5 * time.Second // for credentials, which come as files
	if err := s.Credentials.Ready(); err != nil {
		s.awaitCredentials(err)
		return s.Now().Add(recheck), false
	}
	s.haveCredentials()
	s.mu.Lock()
	until, ping := s.uplink.until, s.uplink.ping
	renewed := s.uplink.action == wire.Hourly && s.uplink.serial != "" && s.uplink.serial != s.serial()
	hourly := s.uplink.action == wire.Hourly
	s.mu.Unlock()
	now := s.Now()
	switch {
	case renewed:
		s.Logger.Info("found a new certificate; retrying")
		s.resetUplink()
	case until.After(now):
		if soon := now.Add(recheck); hourly && until.After(soon) {
			until = soon
		}
		return until, false
	}
	if ping {
		if err := s.ping(ctx); err != nil {
			return s.Now().Add(time.Millisecond), false // the uplink holds the wait
		}
	}
	return time.Time{}, true
}

// canSend reports whether the uplink is ready, without waiting or pinging.
func (s *Shipper) canSend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.uplink.until.After(s.Now()) && !s.uplink.ping
}

func (s *Shipper) awaitCredentials(err error) {
	s.mu.Lock()
	first := s.ready || s.lastReason == nil
	s.ready, s.lastReason = false, err
	s.mu.Unlock()
	if first {
		s.Logger.Warn("waiting for credentials", "host", s.Host, "err", err, "fix", fixOf(err))
		s.Notify("STATUS=waiting for credentials: " + err.Error())
	}
}

func (s *Shipper) haveCredentials() {
	s.mu.Lock()
	first := !s.ready
	s.ready = true
	s.mu.Unlock()
	if first {
		s.Logger.Info("found credentials", "host", s.Host)
		s.Notify("STATUS=shipping")
	}
}

// setAside quarantines an episode. If that fails, it retries later and the episode is not
// sent meanwhile.
func (s *Shipper) setAside(e *entry, r spool.Reason) {
	r.At, r.Episode = s.Now().UTC().Round(0), e.id
	if r.Commit == "" {
		r.Commit = e.commit
	}
	if r.Kind == spool.Unpackable {
		s.Logger.Error("episode cannot be packed; moved to quarantine", "host", s.Host, "episode", e.id, "err", r.Detail, "fix", r.Fix)
	}
	err := s.Spool.Quarantine(r)
	if errors.Is(err, spool.ErrStuck) {
		s.Logger.Warn("episode quarantined, but its folder could not be moved; retrying", "host", s.Host, "episode", e.id, "err",
			err, "fix", "on the lab host: sudo cis490 doctor")
	} else if err != nil {
		e.attempts++
		wait := s.wait(e.attempts)
		s.Logger.Error("episode not quarantined; it waits", "host", s.Host, "episode", e.id, "wait", wait, "err", err)
		e.aside = &r
		s.queue.set(e, waiting, s.Now().Add(wait))
		return
	}
	s.mu.Lock()
	s.moved.SetAside++
	s.mu.Unlock()
	s.queue.drop(e)
}

func reasonOf(p *wire.Problem, e *entry, policy string) spool.Reason {
	return spool.Reason{
		Kind: p.Kind, Status: p.Status, Detail: p.Error(), Fix: p.Fix, Commit: e.commit, Digest: e.tarball.Digest,
		Policy: policy, Retry: wire.ActionOf(p) != wire.Conflict,
	}
}
