package orchestrate

import (
	"sync/atomic"
	"time"
)

// stamp is one moment of an episode.
type stamp struct {
	wall int64 // wall clock, in nanoseconds since the Unix epoch
	mono int64 // nanoseconds since the episode's origin
}

// clock gives all collectors and events of an episode the same origin. The wall clock may
// step during an episode; mono never does.
type clock struct {
	now    func() time.Time
	origin time.Time
	wall   int64        // of the origin
	step   atomic.Int64 // largest difference between wall and mono, in nanoseconds
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

// stepped returns the largest step of the wall clock.
func (c *clock) stepped() time.Duration { return time.Duration(c.step.Load()) }

// at returns the time of a moment of the episode, for timers.
func (c *clock) at(mono int64) time.Time { return c.origin.Add(time.Duration(mono)) }

// back returns the moment d before s.
func (s stamp) back(d int64) stamp { return stamp{s.wall - d, s.mono - d} }
