// Package clock notices that the wall clock jumped, and says by how much stored times
// have to move so that they fit the present clock.
//
// Every fact has the wall time of when it was stored, and wall time may be wrong: a
// machine without a battery clock starts where it was switched off, another starts hours
// ahead, and both are set right at some moment while programs run. A Reading has the time
// since boot beside the wall time. Within one boot the difference of the two shows each
// jump exactly, also over a restart of a program. Over a reboot only this is certain: what
// was stored is not later than now.
//
// It never says which clock is right. It keeps order and age: a fact that is moved is as
// old as it was, and none changes places with another.
package clock

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
)

// Tolerance is how much wall time may run ahead of the time since boot, or behind it,
// without being a jump.
const Tolerance = 5 * time.Second

// tick keeps facts of two boots apart that would have the same time.
const tick = time.Millisecond

// Reading is what a machine's clocks said at one moment.
type Reading struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot_id,omitempty"` // empty: not known
	Up   time.Duration `json:"up_ns,omitempty"`   // time since boot, sleep included
}

// Line is how stored times lie along the clock. The zero Line has none yet.
type Line struct {
	Mark  Reading   `json:"mark"`           // the last reading
	Start time.Time `json:"start,omitzero"` // of the present boot, by the present clock
	// End is the last mark of the boots before. Where the clock was behind it at the
	// start, what they stored lies before Start for now, and moves back when the clock
	// is set right.
	End time.Time `json:"end,omitzero"`
}

// Shift is how far stored times move: those of the present boot, and those before it.
type Shift struct {
	Start         time.Time // of the present boot, by the clock of before
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

// Wall returns readings that have the wall time only.
func Wall(now func() time.Time) func() Reading {
	return func() Reading { return Reading{Wall: now().UTC().Round(0)} }
}

// Since returns how much time has passed since another reading of the same boot; false
// where that is not known.
func (r Reading) Since(o Reading) (time.Duration, bool) {
	return r.Up - o.Up, r.Boot != "" && r.Boot == o.Boot
}

// Advance takes the next reading. It returns false where stored times fit it as they are.
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

// older returns where the times of the boots before end.
func (l Line) older() time.Time {
	if last := l.Start.Add(-tick); !l.End.IsZero() && last.Before(l.End) {
		return last
	}
	return l.End
}

// Move returns where a stored time lies after the shift. No time stays none.
func (s Shift) Move(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return t
	case t.Before(s.Start):
		return t.Add(s.Before)
	}
	return t.Add(s.After)
}
