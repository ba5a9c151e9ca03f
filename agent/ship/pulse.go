package ship

import (
	"context"
	"sync"
	"time"
)

// pulse knows of each worker whether it has something in hand and when that
// last moved. Waiting for work is no hang.
type pulse struct {
	now func() time.Time

	mu   sync.Mutex
	last map[string]time.Time // of the busy ones
}

func newPulse(now func() time.Time) *pulse {
	return &pulse{now: now, last: map[string]time.Time{}}
}

func (p *pulse) busy(worker string) {
	p.mu.Lock()
	p.last[worker] = p.now()
	p.mu.Unlock()
}

func (p *pulse) advance(worker string) {
	p.mu.Lock()
	if _, ok := p.last[worker]; ok {
		p.last[worker] = p.now()
	}
	p.mu.Unlock()
}

func (p *pulse) idle(worker string) {
	p.mu.Lock()
	delete(p.last, worker)
	p.mu.Unlock()
}

// stuck returns a worker that has not moved for the limit, or "".
func (p *pulse) stuck(limit time.Duration) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, at := range p.last {
		if p.now().Sub(at) > limit {
			return w
		}
	}
	return ""
}

// stuckAfter is beyond what any worker waits for the network or the disk.
const stuckAfter = 2 * time.Minute

// feedLoop feeds the service manager's watchdog while every busy worker moves. A
// hang is reported at once rather than starved out: the manager restarts the
// program, and the episode in hand then goes last.
func (s *Shipper) feedLoop(ctx context.Context) {
	for {
		if w := s.pulse.stuck(max(stuckAfter, 2*s.Config.IdleTimeout.D())); w != "" {
			s.Logger.Error("a worker hangs; asking for a restart", "worker", w, "fix", "nothing: the service manager restarts the shipper")
			s.Notify("WATCHDOG=trigger")
			return
		}
		s.Notify("WATCHDOG=1")
		if !s.sleep(ctx, s.Now().Add(15*time.Second), nil) {
			return
		}
	}
}
