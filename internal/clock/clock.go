// Package clock detects jumps of the wall clock and computes by how much stored times must
// move to fit the current clock.
//
// Stored facts carry wall time, which may be wrong: a machine without a battery clock
// starts at the time of its last shutdown, another starts hours ahead, and both are
// corrected while programs run. A Reading holds the wall time and the time since boot.
// Within one boot, program restarts included, the difference of the two shows each jump
// exactly. Across a reboot only one thing is certain: what was stored is not later than
// now.
//
// The package does not decide which clock is right. It preserves order and age: moved facts
// keep their age and their order.
package clock

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
)

// Tolerance is the largest difference between the advance of wall time and of time since
// boot that is not a jump.
const Tolerance = 5 * time.Second

// tick separates facts of two boots that would have the same time.
const tick = time.Millisecond

// Reading is a reading of a machine's clocks.
type Reading struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot_id,omitempty"` // empty: unknown
	Up   time.Duration `json:"up_ns,omitempty"`   // time since boot, sleep included
}

// Line maps stored times to the current clock. The zero Line has no readings.
type Line struct {
	Mark  Reading   `json:"mark"`           // last reading
	Start time.Time `json:"start,omitzero"` // start of the current boot, by the current clock
	// End is the last mark of the previous boots. If the clock was behind End at the start,
	// their facts are moved before Start for now, and move back when the clock is
	// corrected.
	End time.Time `json:"end,omitzero"`
}

// Shift is by how much stored times move: those of the current boot, and those before it.
type Shift struct {
	Start         time.Time // start of the current boot, by the previous clock
	Before, After time.Duration
}

// Read returns a function that reads this machine's clocks.
func Read(fsys disk.FS) func() Reading {
	b, err := disk.ReadFile(fsys, "/proc/sys/kernel/random/boot_id", disk.Small)
	boot := strings.TrimSpace(string(b))
	return func() Reading {
		var t unix.Timespec
		r := Reading{Wall: time.Now().UTC().Round(0)}
		if err == nil && unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) == nil {
			r.Boot, r.Up = boot, time.Duration(t.Nano())
		}
		return r
	}
}

// Wall returns a function that reads only the wall time.
func Wall(now func() time.Time) func() Reading {
	return func() Reading { return Reading{Wall: now().UTC().Round(0)} }
}

// Since returns the time passed since another reading of the same boot. It returns false if
// that is unknown.
func (r Reading) Since(o Reading) (time.Duration, bool) {
	return r.Up - o.Up, r.Boot != "" && r.Boot == o.Boot
}

// Advance records the next reading. It returns false if stored times need not move.
func (l *Line) Advance(now Reading) (Shift, bool) {
	now.Wall = now.Wall.UTC()
	old := *l
	l.Mark = now
	if old.Mark.Wall.IsZero() {
		l.Start = now.Wall
		return Shift{}, false
	}
	if passed, ok := now.Since(old.Mark); ok {
		by := now.Wall.Sub(old.Mark.Wall) - passed
		if by.Abs() <= Tolerance {
			return Shift{}, false
		}
		l.Start = old.Start.Add(by)
		return Shift{Start: old.Start, Before: l.older().Sub(old.older()), After: by}, true
	}
	if now.Boot == "" && !now.Wall.Before(old.Mark.Wall) {
		return Shift{}, false
	}
	l.Start, l.End = now.Wall, old.Mark.Wall
	by := l.older().Sub(l.End)
	return Shift{Start: old.Start, Before: by, After: by}, by != 0
}

// older returns the end of the times of previous boots.
func (l Line) older() time.Time {
	if last := l.Start.Add(-tick); !l.End.IsZero() && last.Before(l.End) {
		return last
	}
	return l.End
}

// Move returns a stored time after the shift. A zero time stays zero.
func (s Shift) Move(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return t
	case t.Before(s.Start):
		return t.Add(s.Before)
	}
	return t.Add(s.After)
}
