package clock_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"cis490/internal/clock"
	"cis490/internal/disk"
)

var t0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

func at(boot string, wall time.Time, up time.Duration) clock.Reading {
	return clock.Reading{Wall: wall, Boot: boot, Up: up}
}

// store is what a program stored, moved whenever the clock jumps.
type store struct {
	line  clock.Line
	facts []time.Time
}

func (s *store) read(r clock.Reading) (jumped bool) {
	shift, jumped := s.line.Advance(r)
	if jumped {
		for i := range s.facts {
			s.facts[i] = shift.Move(s.facts[i])
		}
	}
	return jumped
}

// note stores a fact with the current time.
func (s *store) note(r clock.Reading) { s.read(r); s.facts = append(s.facts, r.Wall) }

func TestLine_Stories(t *testing.T) {
	min := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	for name, c := range map[string]struct {
		notes []clock.Reading
		want  []time.Time // where they lie in the end
	}{
		"nothing jumps": {
			[]clock.Reading{at("a", t0, 0), at("a", t0.Add(min(5)), min(5)), at("b", t0.Add(min(60)), 0)},
			[]time.Time{t0, t0.Add(min(5)), t0.Add(min(60))},
		},
		"slewing is not a jump": {
			[]clock.Reading{at("a", t0, 0), at("a", t0.Add(min(5)+time.Second), min(5))},
			[]time.Time{t0, t0.Add(min(5) + time.Second)},
		},
		"45 min behind after a reboot, then right": {
			[]clock.Reading{at("a", t0, min(90)), at("b", t0.Add(min(1)), 0), at("b", t0.Add(min(50)), min(4))},
			[]time.Time{t0, t0.Add(min(46)), t0.Add(min(50))},
		},
		"a day behind after a reboot, then right": {
			[]clock.Reading{at("a", t0, min(90)), at("b", t0.Add(-24*time.Hour), 0), at("b", t0.Add(min(50)), min(4))},
			[]time.Time{t0, t0.Add(min(46)), t0.Add(min(50))},
		},
		"8 h ahead for one boot, set right in it": {
			[]clock.Reading{at("a", t0, min(90)), at("b", t0.Add(min(485)), 0), at("b", t0.Add(min(10)), min(5))},
			[]time.Time{t0, t0.Add(min(5)), t0.Add(min(10))},
		},
		"8 h ahead until the next boot": { // how long it was off is not known
			[]clock.Reading{at("a", t0, min(90)), at("a", t0.Add(min(5)), min(95)), at("b", t0.Add(min(-475)), 0)},
			[]time.Time{t0.Add(min(-480) - time.Millisecond), t0.Add(min(-475) - time.Millisecond), t0.Add(min(-475))},
		},
		"ahead and back": {
			[]clock.Reading{at("a", t0, 0), at("a", t0.Add(min(605)), min(5)), at("a", t0.Add(min(10)), min(10))},
			[]time.Time{t0, t0.Add(min(5)), t0.Add(min(10))},
		},
		"no boot id, and back": {
			[]clock.Reading{at("", t0, 0), at("", t0.Add(min(5)), 0), at("", t0.Add(min(-60)), 0)},
			[]time.Time{t0.Add(min(-65) - time.Millisecond), t0.Add(min(-60) - time.Millisecond), t0.Add(min(-60))},
		},
	} {
		var s store
		for _, r := range c.notes {
			s.note(r)
		}
		for i, want := range c.want {
			if !s.facts[i].Equal(want) {
				t.Errorf("%s: fact %d lies at %s, want %s", name, i, s.facts[i], want)
			}
		}
	}
}

// TestLine_AnyClock: whatever the clock does, no fact is later than now, facts keep their
// order, and those of one boot keep their age.
func TestLine_AnyClock(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var s store
		wall, up, boot := t0, time.Duration(0), 0
		var ups []time.Duration // uptime at each fact of this boot
		since := 0              // first fact of this boot
		for range 60 {
			d := time.Duration(rnd.Int64N(int64(20 * time.Minute)))
			switch rnd.IntN(6) {
			case 0: // the clock is set
				wall = wall.Add(time.Duration(rnd.Int64N(int64(96*time.Hour))) - 48*time.Hour)
			case 1: // a reboot, and whatever the clock says then
				boot, up, since, ups = boot+1, 0, len(s.facts), nil
				wall = wall.Add(time.Duration(rnd.Int64N(int64(96*time.Hour))) - 48*time.Hour)
			}
			wall, up = wall.Add(d), up+d
			r := at(string(rune('a'+boot)), wall, up)
			s.note(r)
			ups = append(ups, up)
			for i, f := range s.facts {
				if f.After(wall) {
					t.Fatalf("seed %d: fact %d is of %s, now is %s", seed, i, f, wall)
				}
				if i > 0 && f.Before(s.facts[i-1]) {
					t.Fatalf("seed %d: facts %d and %d have changed places", seed, i-1, i)
				}
				if i >= since {
					if age, want := wall.Sub(f), up-ups[i-since]; (age - want).Abs() > 60*clock.Tolerance {
						t.Fatalf("seed %d: fact %d is %v old, and said to be %v", seed, i, want, age)
					}
				}
			}
		}
	}
}

func TestRead_TimePasses(t *testing.T) {
	read := clock.Read(disk.OS{})
	a, b := read(), read()
	if d, ok := b.Since(a); !ok || d < 0 || d > time.Minute || a.Up <= 0 {
		t.Errorf("%+v and %+v are %v apart (%v)", a, b, d, ok)
	}
	if _, ok := b.Since(clock.Reading{}); ok {
		t.Error("time passed since a reading without a boot")
	}
}
