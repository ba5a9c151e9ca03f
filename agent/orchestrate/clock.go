package orchestrate

import (
	"sync/atomic"
	"time"
)

// stamp is one moment of an episode.
type stamp struct {
	wall int64 // nanoseconds of the Unix epoch, as the clock had it then
	mono int64 // nanoseconds since the episode's origin
}

// clock gives every collector and every event of one episode the same origin.
// The wall clock may step while it runs; mono never does.
type clock struct {
	now    func() time.Time
	origin time.Time
	wall   int64        // of the origin
	step   atomic.Int64 // the farthest that wall and mono came apart, in nanoseconds
}

func newClock(now func() time.Time) *clock {
	return &clock{now: now, origin: time.Now(), wall: now().UnixNano()}
}

func (c *clock) stamp() stamp {
	s := stamp{wall: c.now().UnixNano(), mono: int64(time.Since(c.origin))}
	apart := s.wall - s.mono - c.wall
	for old := c.step.Load(); max(apart, -apart) > max(old, -old); old = c.step.Load() {
		if c.step.CompareAndSwap(old, apart) {
			break
		}
	}
	return s
}

// stepped returns how far the wall clock stepped, at most.
func (c *clock) stepped() time.Duration { return time.Duration(c.step.Load()) }

// at returns when a moment of the episode is due, for timers.
func (c *clock) at(mono int64) time.Time { return c.origin.Add(time.Duration(mono)) }

// back returns the moment d before s.
func (s stamp) back(d int64) stamp { return stamp{s.wall - d, s.mono - d} }
