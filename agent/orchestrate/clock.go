package orchestrate

import "time"

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
}

func newClock(now func() time.Time) clock { return clock{now: now, origin: time.Now()} }

func (c clock) stamp() stamp {
	return stamp{wall: c.now().UnixNano(), mono: int64(time.Since(c.origin))}
}

// at returns when a moment of the episode is due, for timers.
func (c clock) at(mono int64) time.Time { return c.origin.Add(time.Duration(mono)) }

// back returns the moment d before s.
func (s stamp) back(d int64) stamp { return stamp{s.wall - d, s.mono - d} }
