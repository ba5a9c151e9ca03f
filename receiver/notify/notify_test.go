package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

var now = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// fixture is a data folder with alerts, and targets that record their messages.
type fixture struct {
	t    *testing.T
	dir  string
	open []fleet.Alert
	// together is how long hosts of one cause are collected.
	together time.Duration

	memory    fleet.Memory
	alerts    receiver.Log[fleet.Alert]
	unwritten []fleet.Alert
	syslogErr error
}

func newFixture(t *testing.T) *fixture {
	dir := t.TempDir()
	return &fixture{t: t, dir: dir, memory: fleet.Memory{Data: on(disk.OS{}, dir).Docs}, alerts: on(disk.OS{}, dir).Alerts}
}

func firing(host, symptom, code string) fleet.Alert {
	return fleet.Alert{
		V:       1,
		Host:    host,
		Symptom: symptom,
		State:   fleet.Firing,
		Code:    code,
		Reason:  "why " + code,
		Fix:     "on " + host + ": fix it",
		Detail:  "d",
		Since:   now,
	}
}

func resolved(host, symptom string) fleet.Alert {
	return fleet.Alert{V: 1, Host: host, Symptom: symptom, State: fleet.Resolved, Since: now}
}

// rows writes the rows of a run.
func (s *fixture) rows(at time.Time, rows ...fleet.Alert) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, local.AlertsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range rows {
		a.At, a.Hour = at, at.Truncate(time.Hour)
		if err := json.NewEncoder(f).Encode(a); err != nil {
			s.t.Fatal(err)
		}
		s.track(a)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *fixture) track(a fleet.Alert) {
	var open []fleet.Alert
	for _, x := range s.open {
		if x.Key() != a.Key() {
			open = append(open, x)
		}
	}
	if a.State == fleet.Firing {
		open = append(open, a)
	}
	s.open = open
}

func (s *fixture) deliver(at time.Time, targets ...Target) map[string]State {
	s.t.Helper()
	states, err := Deliver(s.t.Context(), s.options(at), targets)
	if err != nil {
		s.t.Fatal(err)
	}
	return states
}

// fakeTarget is a target that can fail.
type fakeTarget struct {
	received []Message
	failing  bool
	calls    int
}

func (e *fakeTarget) target() Target {
	return Target{Name: "fakeTarget", Send: func(_ context.Context, m Message) error {
		e.calls++
		if e.failing {
			return errors.New("failing")
		}
		e.received = append(e.received, m)
		return nil
	}}
}

func (e *fakeTarget) titles() string {
	var all []string
	for _, m := range e.received {
		all = append(all, strings.TrimPrefix(m.Title, "cis490: "))
	}
	e.received = nil
	return strings.Join(all, " | ")
}

// TestDeliver_Story: one cause is one notification, open alerts are repeated after four
// hours, and only targets that were notified of an alert get its end.
func TestDeliver_Story(t *testing.T) {
	s, e := newFixture(t), &fakeTarget{}
	at := func(min int) time.Time { return now.Add(time.Duration(min) * time.Minute) }
	quiet, silenced := firing("lab-q", fleet.Silent, "left"), firing("lab-s", fleet.Silent, "nothing")
	quiet.Quiet, silenced.Silenced = true, true
	left, leftOver := firing("lab-5", fleet.Silent, "left"), resolved("lab-5", fleet.Silent)
	left.Quiet, leftOver.Quiet = true, true
	for i, step := range []struct {
		min  int
		rows []fleet.Alert
		want string
	}{
		{0, nil, ""},
		{
			5,
			[]fleet.Alert{
				firing("lab-1", fleet.Silent, "nothing"), firing("lab-2", fleet.Silent, "nothing"), firing("lab-3", fleet.Gone, "nothing"),
				firing("lab-4", fleet.FatalOnly, "gated"), quiet, silenced,
			},
			"3 hosts: silent, gone | lab-4: fatal-only",
		},
		{10, nil, ""},
		{60, []fleet.Alert{firing("lab-1", fleet.Silent, "nothing")}, ""}, // the hour's row is not news
		{
			65,
			[]fleet.Alert{resolved("lab-2", fleet.Silent), resolved("lab-4", fleet.FatalOnly), resolved("lab-q", fleet.Silent)},
			"[RESOLVED] lab-2: silent | [RESOLVED] lab-4: fatal-only",
		},
		{
			245,
			[]fleet.Alert{firing("lab-1", fleet.Silent, "nothing"), firing("lab-5", fleet.Silent, "nothing")},
			"lab-1: still silent | lab-5: silent",
		},
		{250, []fleet.Alert{resolved("lab-s", fleet.Silent)}, ""},
		{305, []fleet.Alert{left}, "[RESOLVED] lab-5: silent"}, // it became quiet
		{310, []fleet.Alert{leftOver}, ""},
		{370, []fleet.Alert{firing("lab-5", fleet.Silent, "nothing")}, "lab-5: silent"},
		{375, []fleet.Alert{leftOver}, "[RESOLVED] lab-5: silent"}, // quiet and resolved between two deliveries
	} {
		s.rows(at(step.min), step.rows...)
		s.deliver(at(step.min), e.target())
		if got := e.titles(); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

// TestDeliver_MutedMeanwhile: what could not be sent, or was collected, is not sent once the
// alert is muted.
func TestDeliver_MutedMeanwhile(t *testing.T) {
	s, e := newFixture(t), &fakeTarget{failing: true}
	s.together = 10 * time.Minute
	at := func(min int) time.Time { return now.Add(time.Duration(min) * time.Minute) }
	mute := func(host string) {
		for i, a := range s.open {
			s.open[i].Silenced = a.Silenced || a.Host == host
		}
	}
	s.rows(at(0), firing("lab-1", fleet.Silent, "nothing"), firing("lab-2", fleet.Silent, "nothing"))
	s.deliver(at(0), e.target())
	e.failing = false
	mute("lab-1")
	s.deliver(at(5), e.target())
	if got := e.titles(); got != "lab-2: silent" {
		t.Errorf("the one that is not muted: %q", got)
	}
	s.rows(at(6), firing("lab-3", fleet.Silent, "nothing"))
	s.deliver(at(6), e.target())
	mute("lab-3")
	s.deliver(at(20), e.target())
	if got := e.titles(); got != "" {
		t.Errorf("collected, and muted: %q", got)
	}
}

// TestDeliver_AnOutageThatSpreads: the first hosts are sent at once, those that follow
// together, in the right order; another cause does not wait.
func TestDeliver_AnOutageThatSpreads(t *testing.T) {
	s, e := newFixture(t), &fakeTarget{}
	s.together = 10 * time.Minute
	full, stopped := firing("lab-10", fleet.DoctorFailing, "failing-check"), firing("lab-11", fleet.DoctorFailing, "failing-check")
	full.Check, stopped.Check = "disk.reserve", "units.active"
	down := func(hosts ...string) (rows []fleet.Alert) {
		for _, h := range hosts {
			rows = append(rows, firing(h, fleet.Silent, "nothing"))
		}
		return rows
	}
	for i, step := range []struct {
		min  int
		rows []fleet.Alert
		want string
	}{
		{0, down("lab-1", "lab-2"), "2 hosts: silent"},
		{5, append(down("lab-3", "lab-4"), firing("lab-9", fleet.Silent, "gated")), "lab-9: silent"},
		{6, []fleet.Alert{full, stopped}, "lab-10: doctor-failing | lab-11: doctor-failing"}, // one code, two causes
		{9, down("lab-5"), ""},
		{10, down("lab-6"), "3 hosts too: silent"}, // lab-6 waits for the next round
		{15, nil, ""},
		{16, []fleet.Alert{resolved("lab-1", fleet.Silent)}, "[RESOLVED] lab-1: silent"},
		{17, []fleet.Alert{resolved("lab-2", fleet.Silent), resolved("lab-3", fleet.Silent)}, ""},
		{18, []fleet.Alert{resolved("lab-6", fleet.Silent)}, "lab-6 too: silent"}, // its end is news: it cannot wait
		{19, down("lab-3"), "[RESOLVED] 3 hosts too: silent"},                     // lab-2, lab-3, lab-6: lab-3 is back already
		{30, nil, "lab-3 too: silent"},
		{60, down("lab-7"), "lab-7: silent"},
	} {
		s.rows(now.Add(time.Duration(step.min)*time.Minute), step.rows...)
		s.deliver(now.Add(time.Duration(step.min)*time.Minute), e.target())
		if got := e.titles(); got != step.want {
			t.Errorf("step %d, minute %d: %q, want %q", i, step.min, got, step.want)
		}
	}
}

// TestDeliver_AfterTheClockWasAhead: rows that follow those with a time in the future are
// sent at once, repeated when they are due, and collected no longer than others.
func TestDeliver_AfterTheClockWasAhead(t *testing.T) {
	s, e := newFixture(t), &fakeTarget{}
	s.together = 10 * time.Minute
	ahead := now.Add(8 * time.Hour)
	s.rows(ahead, firing("lab-1", fleet.Silent, "nothing"))
	s.deliver(ahead, e.target())
	if got := e.titles(); got != "lab-1: silent" {
		t.Fatalf("ahead: %q", got)
	}
	at := func(min int) time.Time { return now.Add(time.Duration(min) * time.Minute) }
	for i, step := range []struct {
		min  int
		rows []fleet.Alert
		want string
	}{
		{5, []fleet.Alert{firing("lab-2", fleet.Silent, "gated")}, "lab-2: silent"},
		{10, []fleet.Alert{firing("lab-3", fleet.Silent, "nothing")}, ""}, // with those of its cause
		{20, nil, "lab-3 too: silent"},
		{65, []fleet.Alert{firing("lab-1", fleet.Silent, "nothing")}, ""},
		{300, []fleet.Alert{firing("lab-1", fleet.Silent, "nothing")}, "lab-1: still silent"},
		{305, []fleet.Alert{resolved("lab-2", fleet.Silent)}, "[RESOLVED] lab-2: silent"},
	} {
		for j := range step.rows {
			step.rows[j].Clock = at(step.min)
		}
		s.rows(ahead.Add(time.Duration(i+1)), step.rows...)
		s.deliver(at(step.min), e.target())
		if got := e.titles(); got != step.want {
			t.Errorf("minute %d: %q, want %q", step.min, got, step.want)
		}
	}
}

// TestDeliver_DeafForHours: nothing is lost, the order is kept, and it shows
// since when it fails; what waited for more than a day is given up and counted.
func TestDeliver_DeafForHours(t *testing.T) {
	s, e, other := newFixture(t), &fakeTarget{failing: true}, &fakeTarget{}
	second := other.target()
	second.Name = "other"
	s.rows(now, firing("lab-1", fleet.Silent, "nothing"))
	s.deliver(now, e.target(), second)
	s.rows(now.Add(time.Hour), resolved("lab-1", fleet.Silent))
	states := s.deliver(now.Add(time.Hour), e.target(), second)
	if x := states["fakeTarget"]; !x.Failing.Equal(now) || x.Err != "failing" || !x.Success.IsZero() || e.calls != 2*attempts {
		t.Errorf("%+v, %d calls", x, e.calls)
	}
	if got := other.titles(); got != "lab-1: silent | [RESOLVED] lab-1: silent" {
		t.Errorf("the other target: %q", got)
	}
	e.failing = false
	states = s.deliver(now.Add(2*time.Hour), e.target(), second)
	if got := e.titles(); got != "lab-1: silent | [RESOLVED] lab-1: silent" || !states["fakeTarget"].Failing.IsZero() {
		t.Errorf("when it hears again: %q, %+v", got, states["fakeTarget"])
	}
	e.failing = true
	s.rows(now.Add(3*time.Hour), firing("lab-1", fleet.Silent, "nothing"))
	s.deliver(now.Add(3*time.Hour), e.target())
	e.failing = false
	states = s.deliver(now.Add(28*time.Hour), e.target())
	if got := e.titles(); got != "" || states["fakeTarget"].GivenUp != 1 {
		t.Errorf("a day later: %q, %+v", got, states["fakeTarget"])
	}
}

// TestDeliver_ANewTargetHearsWhatIsOpen and nothing of what is over.
func TestDeliver_ANewTargetHearsWhatIsOpen(t *testing.T) {
	s, e := newFixture(t), &fakeTarget{}
	s.rows(now, firing("lab-1", fleet.Silent, "nothing"), firing("lab-2", fleet.Silent, "nothing"))
	s.rows(now.Add(time.Minute), resolved("lab-2", fleet.Silent))
	s.deliver(now.Add(2*time.Minute), e.target())
	if got := e.titles(); got != "lab-1: silent" {
		t.Errorf("%q", got)
	}
}

// TestDeliver_ATargetThatIsBack: a target that was missing in some runs, because
// urls_file could not be read, receives what it missed; after a day it counts as new.
func TestDeliver_ATargetThatIsBack(t *testing.T) {
	s, e := newFixture(t), &fakeTarget{}
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	s.rows(at(0), firing("lab-01", "silent", "nothing"))
	s.deliver(at(0), e.target())
	if got := e.titles(); got != "lab-01: silent" {
		t.Errorf("sent %q", got)
	}
	s.rows(at(5), resolved("lab-01", "silent"))
	if states := s.deliver(at(5)); len(states) != 0 {
		t.Errorf("states of targets that are not there: %v", states)
	}
	s.deliver(at(10))
	s.deliver(at(15), e.target())
	if got := e.titles(); got != "[RESOLVED] lab-01: silent" {
		t.Errorf("when it is back: %q", got)
	}
	s.deliver(at(20))
	s.deliver(at(20 + 25*60))
	if states, err := Read(on(disk.OS{}, s.dir).Docs); err != nil || len(states) != 0 {
		t.Errorf("a day later: %v, %v", states, err)
	}
}

// TestDeliver_AtLeastOnce: over random histories with failing targets and runs that are
// cut off before they store their state, each firing alert is sent, and a repeat has the
// key of the first message.
func TestDeliver_AtLeastOnce(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		s := newFixture(t)
		s.together = time.Duration(seed) * 5 * time.Minute
		received := map[string]map[string]bool{} // what was sent, by key
		target := Target{Name: "fakeTarget", Send: func(_ context.Context, m Message) error {
			if rnd.IntN(3) == 0 {
				return errors.New("failing")
			}
			for _, a := range m.Alerts {
				what := fmt.Sprint(a.Host, a.State, a.At.Unix())
				if received[what] == nil {
					received[what] = map[string]bool{}
				}
				received[what][m.Key] = true
			}
			return nil
		}}
		at := now
		want := map[string]bool{}
		for range 60 {
			at = at.Add(time.Duration(1+rnd.IntN(9)) * time.Minute)
			var rows []fleet.Alert
			for i := range 3 {
				host := fmt.Sprint("lab-", i)
				open := false
				for _, a := range s.open {
					open = open || a.Host == host
				}
				switch {
				case rnd.IntN(4) > 0:
				case open:
					rows = append(rows, resolved(host, fleet.Silent))
				default:
					rows = append(rows, firing(host, fleet.Silent, fmt.Sprint("code-", rnd.IntN(2))))
					want[fmt.Sprint(host, fleet.Firing, at.Unix())] = true
				}
			}
			s.rows(at, rows...)
			before, _ := os.ReadFile(filepath.Join(s.dir, receiver.NotifyDoc))
			s.deliver(at, target)
			if rnd.IntN(4) == 0 && before != nil { // cut off before it remembers
				if err := os.WriteFile(filepath.Join(s.dir, receiver.NotifyDoc), before, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 50 { // until everything is sent
			at = at.Add(5 * time.Minute)
			s.deliver(at, target)
		}
		for what := range want {
			if n := len(received[what]); n != 1 {
				t.Errorf("seed %d: %s was sent under %d keys", seed, what, n)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func on(fsys disk.FS, dir string) receiver.Backend {
	return local.Open(local.Options{FS: fsys, Dir: dir})
}
