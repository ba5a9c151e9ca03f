package ship

import (
	"time"

	"cis490/agent/spool"
	"cis490/internal/wire"
)

// uplink makes uploads wait after a failure, like a circuit breaker. All episodes share it,
// so that a failing receiver gets one request per wait from a host, not one per episode.
type uplink struct {
	jitter func(time.Duration) time.Duration // uniform in [0, d)

	until   time.Time
	attempt int
	action  wire.Action
	serial  string // of the rejected certificate
	detail  string
	byPing  bool // a failed ping began the wait: the next pong ends it
	ping    bool // a pong is required before the next upload
}

// fail delays the next request and returns the delay.
func (u *uplink) fail(now time.Time, r Rule, retryAfter time.Duration) time.Duration {
	if u.action != r.Action {
		u.attempt = 0
	}
	u.action = r.Action
	u.attempt++
	limit := r.most
	if u.attempt < 20 {
		limit = min(limit, r.first<<u.attempt)
	}
	wait := u.jitter(limit)
	if r.Action == wire.Hourly {
		wait = limit/2 + wait/2 // only a person or cert-fetch can fix it sooner
	}
	wait = max(wait, min(retryAfter, r.longest()), 100*time.Millisecond)
	u.until = now.Add(wait)
	return wait
}

// reset ends all waiting, because the receiver answered.
func (u *uplink) reset() {
	u.until, u.attempt, u.action, u.serial, u.detail, u.byPing = time.Time{}, 0, "", "", "", false
}

// pause returns the wait that a restart must keep, or nil. Waits for the network are too
// short to keep.
func (u *uplink) pause() *spool.Pause {
	if u.attempt == 0 || u.action == wire.Network {
		return nil
	}
	return &spool.Pause{Until: u.until.Round(0), Attempt: u.attempt, Action: string(u.action), Serial: u.serial, Detail: u.detail}
}

// resume restores the wait of the previous run, capped at the rule's longest one in case
// the clock was set back.
func (u *uplink) resume(now time.Time, p *spool.Pause) {
	if p == nil {
		return
	}
	u.action, u.attempt, u.serial, u.detail = wire.Action(p.Action), p.Attempt, p.Serial, p.Detail
	u.until = now.Add(min(p.Until.Sub(now), ruleOf(u.action).longest()))
}
