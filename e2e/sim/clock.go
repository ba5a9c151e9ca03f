package sim

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// Clock is a machine's wall clock. The monotonic clock is the bubble's.
type Clock struct{ off atomic.Int64 } // seconds

// Now returns the result of time.Now on the machine: its stepped wall clock with the
// bubble's monotonic reading.
func (c *Clock) Now() time.Time { return c.at(time.Now()) }

// raw is the layout of time.Time.
type raw struct {
	wall uint64
	ext  int64
	loc  *time.Location
}

// at converts a time of the bubble to the machine's. In a bubble time.Now has no monotonic
// reading. at adds one in the form of package time (wall seconds since 1885 in bits 30 to
// 62, then nanoseconds), because on a machine timers do not wait for the wall clock.
func (c *Clock) at(t time.Time) time.Time {
	const monotonic, from1885 = 1 << 63, 2682288000 // seconds until 1970
	seconds := uint64(t.Unix() + from1885 + c.off.Load())
	now := raw{monotonic | seconds<<30 | uint64(t.Nanosecond()), t.UnixNano(), (*raw)(unsafe.Pointer(&t)).loc}
	return *(*time.Time)(unsafe.Pointer(&now))
}

// Step moves the wall clock.
func (c *Clock) Step(d time.Duration) { c.off.Add(int64(d / time.Second)) }

// Off returns the difference of the wall clock.
func (c *Clock) Off() time.Duration { return time.Duration(c.off.Load()) * time.Second }
