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

// at is how a moment looks on the machine.
func (c *Clock) at(t time.Time) time.Time {
	off := c.off.Load()
	if off == 0 {
		return t
	}
	// Time.Add moves both readings. The layout is that of package time: the wall
	// seconds since 1885 lie in bits 30 to 62 beside the nanoseconds.
	raw := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	const monotonic = 1 << 63
	if raw.wall&monotonic == 0 {
		return t.Add(time.Duration(off) * time.Second)
	}
	seconds := int64(raw.wall<<1>>31) + off
	raw.wall = monotonic | uint64(seconds)<<30 | raw.wall&(1<<30-1)
	return t
}

// Step sets the wall clock off by so much more.
func (c *Clock) Step(d time.Duration) { c.off.Add(int64(d / time.Second)) }

// Off returns how far the wall clock is off.
func (c *Clock) Off() time.Duration { return time.Duration(c.off.Load()) * time.Second }
