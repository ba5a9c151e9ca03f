package ship

import (
	"time"

	"cis490/agent/spool"
	"cis490/internal/wire"
)

// lane is the line to the receiver: when the next request with an episode may
// go out. All episodes share it, so that a sick receiver hears from a host once
// per wait, not once per episode.
type lane struct {
	jitter func(time.Duration) time.Duration // uniform in [0, d)

	until   time.Time
	attempt int
	action  wire.Action
	serial  string // of the certificate that was refused
	detail  string
	byPing  bool // a ping failed: a pong opens the lane
	ping    bool // a pong is needed before the next episode goes out
}

// fail puts the next request off and returns for how long.
func (l *lane) fail(now time.Time, r Rule, retryAfter time.Duration) time.Duration {
	if l.action != r.Action {
		l.attempt = 0
	}
	l.action = r.Action
	l.attempt++
	limit := r.most
	if l.attempt < 20 {
		limit = min(limit, r.first<<l.attempt)
	}
	wait := l.jitter(limit)
	if r.Action == wire.Hourly {
		wait = limit/2 + wait/2 // nobody but a person or cert-fetch can change it sooner
	}
	wait = max(wait, min(retryAfter, r.most), 100*time.Millisecond)
	l.until = now.Add(wait)
	return wait
}

// open ends all waiting: the receiver answered.
func (l *lane) open() {
	l.until, l.attempt, l.action, l.serial, l.detail, l.byPing = time.Time{}, 0, "", "", "", false
}

// pause returns what a restart must not cut short; waits for the network are
// too short to matter.
func (l *lane) pause() *spool.Pause {
	if l.attempt == 0 || l.action == wire.Network {
		return nil
	}
	return &spool.Pause{Until: l.until.Round(0), Attempt: l.attempt, Action: string(l.action), Serial: l.serial, Detail: l.detail}
}

// resume takes up a wait of before the restart. A clock that was set back
// meanwhile, or is from now on, does not make it longer than it can be.
func (l *lane) resume(now time.Time, p *spool.Pause) {
	if p == nil {
		return
	}
	l.action, l.attempt, l.serial, l.detail = wire.Action(p.Action), p.Attempt, p.Serial, p.Detail
	l.until = now.Add(min(p.Until.Sub(now), ruleOf(l.action).most))
}
