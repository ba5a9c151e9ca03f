package contacts

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cis490/internal/clock"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/local"
)

var t0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// pi is a receiver whose clocks a test moves, and its book.
type pi struct {
	t   *testing.T
	dir string
	r   clock.Reading
	b   *Recorder
}

func newPi(t *testing.T) *pi {
	p := &pi{t: t, dir: t.TempDir(), r: clock.Reading{Wall: t0, Boot: "a", Up: time.Hour}}
	p.start()
	return p
}

func (p *pi) start() {
	p.b = Open(
		Options{
			Docs:  local.Open(local.Options{FS: disk.OS{}, Dir: p.dir}).Docs,
			Clock: func() clock.Reading { return p.r },
			Log:   slog.New(slog.DiscardHandler),
		},
	)
	p.b.Ready(true)
}

func (p *pi) save() {
	p.t.Helper()
	if err := p.b.Save(); err != nil {
		p.t.Fatal(err)
	}
}

// pass lets time pass, with the book being written as serve does.
func (p *pi) pass(d time.Duration) {
	p.t.Helper()
	for ; d > 0; d -= 30 * time.Second {
		step := min(d, 30*time.Second)
		p.r.Wall, p.r.Up = p.r.Wall.Add(step), p.r.Up+step
		p.save()
	}
}

// boot simulates a power cut and a start with another clock.
func (p *pi) boot(wall time.Time) {
	p.r = clock.Reading{Wall: wall, Boot: p.r.Boot + "'", Up: 20 * time.Second}
	p.start()
}

func (p *pi) outages() []Span { return p.b.Copy().Receiver.Outages }

func (p *pi) accepted(h ident.Host) time.Time { return p.b.Copy().Hosts[h].LastAccepted }

// TestRecorder_ClockBehindAfterAnOutage: the receiver was off for 45 minutes and comes back
// with the time of when it was switched off, or of a day before. Set right, the book has
// what happened.
func TestRecorder_ClockBehindAfterAnOutage(t *testing.T) {
	for _, behind := range []time.Duration{0, 45 * time.Minute, 24 * time.Hour} {
		p := newPi(t)
		p.pass(10 * time.Minute)
		p.b.Accepted("lab-01", "c")
		p.b.Accepted("lab-02", "c")
		p.pass(time.Minute)
		off := p.r.Wall
		p.boot(off.Add(45*time.Minute - behind))
		p.pass(5 * time.Minute)
		p.b.Accepted("lab-01", "c")
		p.pass(5 * time.Minute)
		if o := p.outages(); len(o) != 1 || o[0].To.Before(o[0].From) {
			t.Errorf("behind by %v: outages %v", behind, o)
		}
		p.r.Wall = p.r.Wall.Add(behind) // set right
		p.pass(time.Minute)
		p.start()
		p.save()
		last := func(at, want time.Time) {
			t.Helper()
			if at.Sub(want).Abs() > time.Second {
				t.Errorf("behind by %v: %s, want %s", behind, at, want)
			}
		}
		last(p.accepted("lab-02"), off.Add(-time.Minute))
		last(p.accepted("lab-01"), off.Add(50*time.Minute))
		if from := p.outages()[0].From; from.After(off) || from.Before(off.Add(-beatEvery)) {
			t.Errorf("behind by %v: away from %s, want %s", behind, from, off)
		}
		last(p.outages()[0].To, off.Add(45*time.Minute))
	}
}

// TestRecorder_ClockAheadForOneBoot: 8 hours ahead, then set right while serve runs, or
// before it is started again.
func TestRecorder_ClockAheadForOneBoot(t *testing.T) {
	for _, running := range []bool{true, false} {
		p := newPi(t)
		p.b.Accepted("lab-02", "c")
		p.pass(time.Minute)
		off := p.r.Wall
		p.boot(off.Add(8*time.Hour + 2*time.Minute))
		p.b.Accepted("lab-01", "c")
		p.b.Ping("lab-01", wire.Ping{BootID: "x"})
		p.pass(20 * time.Minute)
		p.r.Wall = p.r.Wall.Add(-8 * time.Hour)
		if !running {
			p.start()
		}
		p.b.Accepted("lab-03", "c")
		c := p.b.Copy()
		for h, want := range map[ident.Host]time.Time{"lab-01": off.Add(2 * time.Minute), "lab-02": t0, "lab-03": off.Add(22 * time.Minute)} {
			if got := c.Hosts[h].LastAccepted; got.Sub(want).Abs() > time.Second {
				t.Errorf("%s was accepted at %s, want %s", h, got, want)
			}
		}
		if b := c.Hosts["lab-01"].Boots[0]; b.Last.After(p.r.Wall) {
			t.Errorf("heard at %s, in the future", b.Last)
		}
		j := p.b.LastJump()
		if (j.By + 8*time.Hour).Abs() > time.Second {
			t.Errorf("noted as a jump: %+v", j)
		}
		if got := c.Receiver.Past(off.Add(8*time.Hour+10*time.Minute), p.r.Wall); got.Sub(off.Add(10*time.Minute)).Abs() > time.Second {
			t.Errorf("what another file has of then was at %s", got)
		}
	}
}

// TestSave_WritesEveryChange: a contact is encoded again after a request of its host, and after
// a jump of the clock.
func TestSave_WritesEveryChange(t *testing.T) {
	p := newPi(t)
	written := func() Contacts {
		p.save()
		c, err := Read(p.b.o.Docs)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, h := range []ident.Host{"lab-01", "lab-02"} {
		p.b.Heard(h, "10.0.0.1", "1", time.Time{})
	}
	first := written()
	p.b.Heard("lab-02", "10.0.0.1", "2", time.Time{})
	if c := written(); c.Hosts["lab-01"].Serial != "1" || c.Hosts["lab-02"].Serial != "2" {
		t.Errorf("%+v, %+v", c.Hosts["lab-01"], c.Hosts["lab-02"])
	}
	p.r.Wall = p.r.Wall.Add(time.Hour)
	p.b.Forget(func(h ident.Host) bool { return h == "lab-01" })
	c := written()
	if by := c.Hosts["lab-01"].LastContact.Sub(first.Hosts["lab-01"].LastContact); by != time.Hour || len(c.Hosts) != 1 {
		t.Errorf("after the jump: moved by %s, %d hosts", by, len(c.Hosts))
	}
}

// TestRecorder_AsleepIsAway: a receiver that slept took nothing.
func TestRecorder_AsleepIsAway(t *testing.T) {
	p := newPi(t)
	p.pass(10 * time.Minute)
	p.r.Wall, p.r.Up = p.r.Wall.Add(45*time.Minute), p.r.Up+45*time.Minute
	p.pass(time.Minute)
	o := p.outages()
	if len(o) != 1 || o[0].To.Sub(o[0].From) < 45*time.Minute || o[0].To.Sub(o[0].From) > 46*time.Minute {
		t.Errorf("outages: %v", o)
	}
}

// TestContacts_EveryTimeMoves: no time that the receiver's clock gave is left where it was.
func TestContacts_EveryTimeMoves(t *testing.T) {
	ofOthers := []string{".CertificateUntil", ".Queue.", ".Update.", ".Clock."}
	var c Contacts
	fill(reflect.ValueOf(&c).Elem())
	c.move(clock.Shift{Start: t0.Add(-time.Hour), After: time.Minute})
	n := 0
	each(reflect.ValueOf(c), "", func(path string, at time.Time) {
		n++
		still := false
		for _, o := range ofOthers {
			still = still || strings.Contains(path+".", o)
		}
		if want := t0.Add(time.Minute); !still && !at.Equal(want) {
			t.Errorf("%s is %s, want %s", path, at, want)
		}
	})
	if n < 20 {
		t.Errorf("only %d times were looked at", n)
	}
}

// fill sets every time to t0, and gives every list, map and pointer one element.
func fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(t0))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		one := reflect.New(v.Type().Elem()).Elem()
		fill(one)
		v.SetMapIndex(reflect.ValueOf("lab-01").Convert(v.Type().Key()), one)
	default: // no time
	}
}

func each(v reflect.Value, path string, f func(string, time.Time)) {
	if at, ok := reflect.TypeAssert[time.Time](v); ok {
		f(path, at)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			each(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Pointer:
		each(v.Elem(), path, f)
	case reflect.Slice:
		each(v.Index(0), path, f)
	case reflect.Map:
		each(v.MapIndex(v.MapKeys()[0]), path, f)
	default: // no time
	}
}

// TestClock_UnreadableAfterABootInThePast: the receiver boots with a clock that is behind, and
// reads the contacts only later. The outage of the reboot does not end before it begins.
func TestClock_UnreadableAfterABootInThePast(t *testing.T) {
	p := newPi(t)
	p.pass(time.Hour)
	file := filepath.Join(p.dir, receiver.ContactsDoc)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Rename(file, file+".away"))
	must(os.Mkdir(file, 0o755)) // it cannot be read
	p.boot(p.r.Wall.Add(-37 * time.Minute))
	if p.b.Unwritten() == nil {
		t.Fatal("the file was read")
	}
	p.r.Wall, p.r.Up = p.r.Wall.Add(10*time.Minute), p.r.Up+10*time.Minute
	must(os.Remove(file))
	must(os.Rename(file+".away", file))
	p.pass(time.Minute)
	all := p.outages()
	for _, o := range all {
		if o.To.Before(o.From) {
			t.Errorf("an outage from %s to %s", o.From, o.To)
		}
	}
	if len(all) != 1 || all[0].To.Sub(all[0].From) > time.Second {
		t.Errorf("outages: %v", all)
	}
}
