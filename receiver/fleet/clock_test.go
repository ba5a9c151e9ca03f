package fleet

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// rx is a receiver with hosts and a clock that can jump. Time passes in minutes: running
// hosts ship every five, and fleet-check runs every five.
type rx struct {
	*scene
	r      clock.Reading
	synced check.Status
	up     bool // serve runs
	minute int
	book   *contacts.Recorder
	index  receiver.Log[receiver.Entry]
	on     map[ident.Host]bool
	offset map[ident.Host]time.Duration // of a host's clock, from the true time
	off    time.Duration                // of this one
	quiet  map[ident.Host]int           // minutes in which serve was up, since the last episode
	boots  int
	last   Result
}

func newRx(t *testing.T, hosts int) *rx {
	t.Helper()
	x := &rx{
		scene: newScene(t), r: clock.Reading{Wall: now, Boot: "boot-0", Up: time.Hour}, synced: check.Warn,
		on: map[ident.Host]bool{}, offset: map[ident.Host]time.Duration{}, quiet: map[ident.Host]int{},
	}
	var events []string
	for i := range hosts {
		h := ident.Host(fmt.Sprintf("lab-%d", i+1))
		x.on[h], x.quiet[h] = true, 0
		b, _ := json.Marshal(
			roster.Event{At: ago(1000 * time.Hour), Host: h, Event: roster.Enrolled, Serial: "1", Expires: now.Add(1e4 * time.Hour)},
		)
		events = append(events, string(b)+"\n")
	}
	x.write(local.RosterFile, strings.Join(events, ""))
	x.start()
	for h := range x.on {
		x.ship(h)
	}
	x.save()
	return x
}

// lazy is a disk that makes nothing durable: no power is cut here.
type lazy struct{ disk.OS }

type lazyFile struct{ disk.File }

func (lazyFile) Sync() error { return nil }

func (l lazy) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	f, err := l.OS.OpenFile(name, flag, perm)
	return lazyFile{f}, err
}

func (lazy) SyncDir(string) error { return nil }

func (x *rx) clock() clock.Reading { return x.r }

func (x *rx) wall() time.Time { return x.r.Wall }

func (x *rx) start() {
	x.t.Helper()
	x.index = local.Open(local.Options{FS: lazy{}, Dir: x.dir, Now: x.wall}).Index
	if err := x.index.Open(); err != nil {
		x.t.Fatal(err)
	}
	x.book = contacts.Open(contacts.Options{Docs: on(lazy{}, x.dir).Docs, Clock: x.clock, Log: slog.New(slog.DiscardHandler)})
	x.book.Ready(true)
	x.up = true
	x.save()
}

func (x *rx) save() {
	x.t.Helper()
	if err := x.book.Save(); err != nil {
		x.t.Fatal(err)
	}
}

// stop ends serve at once, as a power cut does.
func (x *rx) stop() {
	x.t.Helper()
	if err := x.index.Close(); err != nil {
		x.t.Fatal(err)
	}
	x.up = false
}

// set sets the clock to so much off the true time.
func (x *rx) set(off time.Duration) {
	x.r.Wall, x.off = x.r.Wall.Add(off-x.off), off
}

// boot starts the machine again, after being off for a time and with a clock that is off
// the true time by another.
func (x *rx) boot(away, off time.Duration) {
	x.t.Helper()
	x.stop()
	x.boots++
	x.r.Wall = x.r.Wall.Add(away)
	x.r.Boot, x.r.Up = fmt.Sprint("boot-", x.boots), 20*time.Second
	x.set(off)
	x.start()
}

func (x *rx) ship(h ident.Host) {
	x.t.Helper()
	if err := x.index.Append(
		[]receiver.Entry{
			{
				Host: h, Episode: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Digest: ident.Digest(strings.Repeat("ab", 32)),
				Commit: ident.Commit(strings.Repeat("a", 40)),
			},
		},
	); err != nil {
		x.t.Fatal(err)
	}
	x.book.Heard(h, "192.0.2.1", "1", now.Add(1e4*time.Hour))
	x.book.Ping(h, wire.Ping{Clock: x.r.Wall.Add(x.offset[h] - x.off), BootID: "b0000000-0000-0000-0000-00000000" + string(h)[4:]})
	x.book.Accepted(h, "c")
	x.quiet[h] = 0
}

func (x *rx) check() {
	x.t.Helper()
	r, err := x.run(x.r.Wall, func(o *Options) {
		o.Backend, o.Clock, o.Receiver = on(lazy{}, x.dir), x.r, []check.Row{{ID: "clock.synced", Status: x.synced}}
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.last = r
}

// pass lets minutes pass; each is called after each run of fleet-check.
func (x *rx) pass(minutes int, each func()) {
	x.t.Helper()
	for range minutes {
		x.minute++
		x.r.Wall, x.r.Up = x.r.Wall.Add(time.Minute), x.r.Up+time.Minute
		if x.up {
			for i, h := range slices.Sorted(maps.Keys(x.on)) {
				x.quiet[h]++
				if x.on[h] && (x.minute+i)%5 == 0 {
					x.ship(h)
				}
			}
			x.save()
		}
		if x.minute%5 == 3 {
			x.check()
			each()
		}
	}
}

// open returns the open alerts that are not about the receiver's clock.
func (x *rx) open() string {
	return symptoms(slices.DeleteFunc(slices.Clone(x.last.Open), func(a Alert) bool { return a.Symptom == ClockWrong }))
}

func (x *rx) firing(symptom string) *Alert {
	i := slices.IndexFunc(x.last.Open, func(a Alert) bool { return a.Symptom == symptom })
	if i < 0 {
		return nil
	}
	return &x.last.Open[i]
}

// well wants no alert of a host, in a number of minutes.
func (x *rx) well(minutes int, when string) {
	x.t.Helper()
	x.pass(minutes, func() {
		x.t.Helper()
		if got := x.open(); got != "" {
			x.t.Errorf("%s, minute %d: %s", when, x.minute, got)
		}
	})
}

// TestClock_BehindAfterAnOutage: the receiver was down for 45 minutes and comes back with
// its clock 45 minutes, or a day, behind; after a while it is set right. No running host
// is silent, and one that is gone raises an alert after half an hour.
func TestClock_BehindAfterAnOutage(t *testing.T) {
	for _, behind := range []time.Duration{45 * time.Minute, 24 * time.Hour} {
		x := newRx(t, 3)
		x.well(20, "before")
		x.boot(45*time.Minute, -behind)
		x.well(12, "behind by "+behind.String())
		if a := x.firing(ClockWrong); a == nil || a.Fix != fixClock {
			t.Errorf("behind by %v: the clock's alert is %+v", behind, a)
		}
		x.set(0)
		x.well(12, "set right")
		if a := x.firing(ClockWrong); a != nil {
			t.Errorf("the clock is right, yet: %+v", a)
		}
		x.on["lab-2"] = false
		x.well(25, "before half an hour is over")
		x.pass(12, func() {})
		if got := x.open(); got != "lab-2 silent firing" {
			t.Errorf("a host that is gone: %q", got)
		}
	}
}

// TestClock_AheadForOneBoot: the clock is 8 hours ahead for one boot of a dual-boot
// machine, and right after that, in the same boot or another. Each run judges, and rows
// with the wrong time hide nothing, neither at once nor later.
func TestClock_AheadForOneBoot(t *testing.T) {
	for _, again := range []bool{false, true} {
		x := newRx(t, 2)
		x.well(20, "before")
		x.boot(2*time.Minute, 8*time.Hour)
		x.well(20, "ahead")
		if a := x.firing(ClockWrong); a == nil || a.Fix != fixClock {
			t.Errorf("the clock's alert is %+v", a)
		}
		if again {
			x.boot(2*time.Minute, 0)
		} else {
			x.set(0)
		}
		ran := x.last.At
		x.well(12, "right")
		if !x.last.At.Before(ran) || x.firing(ClockWrong) != nil {
			t.Errorf("run of %s after one of %s, clock %+v", x.last.At, ran, x.firing(ClockWrong))
		}
		x.on["lab-2"] = false
		x.pass(37, func() {})
		sent := len(x.sent)
		x.pass(9*60, func() {
			if got := x.open(); got != "lab-2 silent firing" {
				t.Errorf("minute %d: %q", x.minute, got)
			}
		})
		for _, line := range x.sent[sent:] {
			if strings.Contains(line, "state=resolved") && !strings.Contains(line, "symptom=clock") {
				t.Errorf("sent: %s", line)
			}
		}
		at := time.Time{}
		for a, err := range on(disk.OS{}, x.dir).Alerts.Since(time.Time{}) {
			if err != nil || a.At.Before(at) || a.When().After(x.r.Wall.Add(8*time.Hour)) {
				t.Fatalf("row %+v after %s, %v", a, at, err)
			}
			at = a.At
		}
	}
}

// TestClock_HostsAreNotBlamed: each host's check reports that its clock differs from the
// receiver's, which is wrong. There is one alert, about the receiver.
func TestClock_HostsAreNotBlamed(t *testing.T) {
	x := newRx(t, 3)
	x.set(8 * time.Hour)
	x.pass(10, func() {})
	for h := range x.on {
		report := check.Report{Checks: []check.Row{{ID: offsetCheck, Status: check.Fail}}}
		x.json("host-health/"+string(h)+".json", contacts.Snapshot{Host: h, ReceivedAt: x.r.Wall.Add(10 * time.Minute), Snapshot: report})
	}
	x.well(10, "snapshots say that the clocks differ")
	if x.firing(ClockWrong) == nil {
		t.Error("the receiver's clock is not sent of")
	}
}

// TestFacts_QuietCountsNoOutageTwice: outages may have a stretch in common.
func TestFacts_QuietCountsNoOutageTwice(t *testing.T) {
	f := facts(nil)
	f.Away = []contacts.Span{
		{From: ago(40 * time.Minute), To: ago(20 * time.Minute)},
		{From: ago(90 * time.Minute), To: ago(30 * time.Minute)},
		{From: ago(25 * time.Minute), To: ago(24 * time.Minute)},
	}
	if got := f.silentFor(ago(time.Hour)); got != 20*time.Minute {
		t.Errorf("quiet for %v, want 20 min", got)
	}
}

// TestClock_Asleep: the receiver slept for 45 minutes. Whether serve or fleet-check wakes
// up first, no host counts as silent.
func TestClock_Asleep(t *testing.T) {
	x := newRx(t, 2)
	x.well(20, "before")
	x.r.Wall, x.r.Up = x.r.Wall.Add(45*time.Minute), x.r.Up+45*time.Minute
	x.check()
	if got := x.open(); got != "" {
		t.Errorf("at once: %s", got)
	}
	x.well(40, "after it slept")
}

// TestClock_RefusalsOfAWrongTime: what was refused while the clock was ahead is over once
// an episode is taken.
func TestClock_RefusalsOfAWrongTime(t *testing.T) {
	x := newRx(t, 1)
	x.set(8 * time.Hour)
	x.pass(6, func() {})
	x.book.RefusedPut("lab-1", wire.NewProblem(wire.Gated, "not in the list"))
	x.json(local.RejectionsFile, receiver.Rejection{
		V: 1, At: x.r.Wall, Host: "lab-1", Verified: true, Route: receiver.RouteEpisode, Status: 412, Kind: wire.Gated, Count: 1,
		First: x.r.Wall, Last: x.r.Wall,
	})
	x.set(0)
	x.well(60, "right")
	x.on["lab-1"] = false
	x.pass(9*60, func() {})
	if got := x.open(); got != "lab-1 silent firing" {
		t.Errorf("hours later: %q", got)
	}
}

// TestClock_AnyClock: whatever the clock does, within a boot and across reboots, with
// serve up or not: hosts that shipped in the last half hour of the receiver's uptime
// raise no alert, and all others do at the next run.
func TestClock_AnyClock(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		x := newRx(t, 4)
		days := func() time.Duration { return time.Duration(rnd.Int64N(int64(96*time.Hour))) - 48*time.Hour }
		slack := 2
		for range 14 {
			switch rnd.IntN(6) {
			case 0:
				x.set(days())
			case 1:
				x.set(0)
			case 2:
				x.boot(time.Duration(rnd.IntN(120))*time.Minute, days())
				slack++ // contacts are up to a minute old at a power cut
			case 3:
				x.stop()
				if x.pass(rnd.IntN(60), func() {}); rnd.IntN(2) == 0 {
					x.set(days())
				}
				x.start()
				slack++
			case 4:
				x.on[ident.Host(fmt.Sprintf("lab-%d", 2+rnd.IntN(3)))] = rnd.IntN(2) == 0
			default:
				x.r.Wall, x.r.Up = x.r.Wall.Add(time.Hour), x.r.Up+time.Hour // asleep
				slack++
			}
			if rnd.IntN(2) == 0 {
				x.check() // before serve has noticed anything
			}
			x.pass(5+rnd.IntN(60), func() {
				sent := map[ident.Host]bool{}
				for _, a := range x.last.Open {
					if a.Symptom == Silent || a.Symptom == Gone {
						sent[ident.Host(a.Host)] = true
					} else if a.Symptom != ClockWrong {
						t.Errorf("seed %d, minute %d: %s %s", seed, x.minute, a.Host, a.Symptom)
					}
				}
				for h, quiet := range x.quiet {
					if sent[h] && quiet < 30 || !sent[h] && quiet > 30+slack {
						t.Errorf("seed %d, minute %d: %s was quiet for %d minutes, sent: %v", seed, x.minute, h, quiet, sent[h])
					}
				}
			})
			if t.Failed() {
				return
			}
		}
		rows := 0
		at := time.Time{}
		for r, err := range onDisk(x.dir).Index.Since(time.Time{}) {
			if err != nil || r.ReceivedAt.Before(at) {
				t.Fatalf("seed %d: row of %s after %s, %v", seed, r.ReceivedAt, at, err)
			}
			rows, at = rows+1, r.ReceivedAt
		}
		if b, err := os.ReadFile(filepath.Join(x.dir, local.IndexFile)); err != nil || strings.Count(string(b), "\n") != rows {
			t.Errorf("seed %d: %d rows can be read, %v", seed, rows, err)
		}
	}
}
