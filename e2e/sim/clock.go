package sim

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// Clock is a machine's wall clock. Its monotonic one is the bubble's.
type Clock struct{ off atomic.Int64 } // seconds

// Now returns what time.Now would on the machine: a wall clock that was stepped, and
// a monotonic reading that was not.
func (c *Clock) Now() time.Time { return c.at(time.Now()) }

// raw is the layout of time.Time.
type raw struct {
	wall uint64
	ext  int64
	loc  *time.Location
}

// at is how a moment of the bubble looks on the machine. In a bubble time.Now has no
// monotonic reading; on a machine it has one, so that what waits does not wait for a wall
// clock. It is added as package time would: the wall seconds since 1885 lie in bits 30 to
// 62 beside the nanoseconds.
func (c *Clock) at(t time.Time) time.Time {
	const monotonic, from1885 = 1 << 63, 2682288000 // seconds until 1970
	seconds := uint64(t.Unix() + from1885 + c.off.Load())
	now := raw{monotonic | seconds<<30 | uint64(t.Nanosecond()), t.UnixNano(), (*raw)(unsafe.Pointer(&t)).loc}
	return *(*time.Time)(unsafe.Pointer(&now))
}

// Step sets the wall clock off by so much more.
func (c *Clock) Step(d time.Duration) { c.off.Add(int64(d / time.Second)) }

// Off returns how far the wall clock is off.
func (c *Clock) Off() time.Duration { return time.Duration(c.off.Load()) * time.Second }
