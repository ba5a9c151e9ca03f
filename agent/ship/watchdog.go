package ship

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// watchdog records when each busy worker last made progress. An idle worker cannot hang.
type watchdog struct {
	now func() time.Time

	mu   sync.Mutex
	last map[string]time.Time // progress, by busy worker
}

func newWatchdog(now func() time.Time) *watchdog {
	return &watchdog{now: now, last: map[string]time.Time{}}
}

func (p *watchdog) busy(worker string) {
	p.mu.Lock()
	p.last[worker] = p.now()
	p.mu.Unlock()
}

func (p *watchdog) advance(worker string) {
	p.mu.Lock()
	if _, ok := p.last[worker]; ok {
		p.last[worker] = p.now()
	}
	p.mu.Unlock()
}

func (p *watchdog) idle(worker string) {
	p.mu.Lock()
	delete(p.last, worker)
	p.mu.Unlock()
}

// stuck returns a worker without progress for longer than the limit, or "".
func (p *watchdog) stuck(limit time.Duration) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, at := range p.last {
		if p.now().Sub(at) > limit {
			return w
		}
	}
	return ""
}

// stuckAfter is longer than any worker waits for the network or the disk.
const stuckAfter = 2 * time.Minute

// watchdogLoop feeds the service manager's watchdog while every busy worker makes progress.
// On a hang it triggers the watchdog at once. The service manager then restarts the
// program, and the current episode goes to the end of the queue.
func (s *Shipper) watchdogLoop(ctx context.Context) {
	every := cmp.Or(s.Watchdog, time.Minute) / 4
	for {
		if w := s.watchdog.stuck(max(stuckAfter, 2*s.Config.IdleTimeout.D())); w != "" {
			s.Logger.Error("a worker hangs; asking for a restart", "worker", w, "fix", "nothing: the service manager restarts the shipper")
			s.Notify("WATCHDOG=trigger")
			return
		}
		s.Notify("WATCHDOG=1")
		if !s.sleep(ctx, s.Now().Add(every), nil) {
			return
		}
	}
}
