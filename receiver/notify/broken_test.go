package notify

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk/sickdisk"
	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

// TestDeliver_HeartbeatStopsWithTheAlerts: the heartbeat means that alerts are delivered,
// so it is not sent while another target, or syslog, fails.
func TestDeliver_HeartbeatStopsWithTheAlerts(t *testing.T) {
	s, e, beats := newFixture(t), &fakeTarget{}, 0
	beat := Target{Name: Heartbeat, Always: true, Last: true, Sync: func(context.Context, time.Time, []fleet.Alert, []fleet.Alert) error {
		beats++
		return nil
	}}
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	s.rows(at(0), firing("lab-1", fleet.Silent, "nothing"))
	for i, step := range []struct {
		failing   bool
		syslogErr error
		want      int
	}{
		{false, nil, 1}, {true, nil, 1}, {true, nil, 1}, {false, nil, 2}, {false, errors.New("no journal"), 2}, {false, nil, 3},
	} {
		e.failing = step.failing
		s.rows(at(5*i), firing("lab-"+string(rune('a'+i)), fleet.Silent, "nothing"))
		s.syslogErr = step.syslogErr
		states := s.deliver(at(5*i), beat, e.target()) // in this order
		if beats != step.want {
			t.Errorf("step %d: %d beats, want %d", i, beats, step.want)
		}
		if sent := step.failing || step.syslogErr != nil; sent != !states[Heartbeat].Failing.IsZero() {
			t.Errorf("step %d: %+v", i, states[Heartbeat])
		}
	}
}

// TestDeliver_WhereNothingCanBeWritten: rows that are not in alerts.jsonl are sent once,
// from memory; the state is stored in the spare folder; later, when the rows are written,
// nothing is sent again.
func TestDeliver_WhereNothingCanBeWritten(t *testing.T) {
	for name, fails := range map[string]func(op, path string) bool{
		"full":              func(op, _ string) bool { return op == "write" || op == "create" },
		"dead":              func(string, string) bool { return true },
		"alerts unreadable": func(op, path string) bool { return op == "read" && filepath.Base(path) == local.AlertsFile },
	} {
		t.Run(name, func(t *testing.T) {
			s, e, d := newFixture(t), &fakeTarget{}, &sickdisk.Disk{}
			s.memory, s.alerts = fleet.Memory{Data: on(d, s.dir).Docs, Spare: local.Folder(d, t.TempDir())}, on(d, s.dir).Alerts
			at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
			s.rows(at(0), firing("lab-1", fleet.Silent, "nothing"))
			s.deliver(at(0), e.target())
			e.titles()

			d.Fail(func(op, path string, _ int64) error {
				if strings.HasPrefix(path, s.dir) && fails(op, path) {
					return unix.EIO
				}
				return nil
			})
			s.memory.ReadOnly = name != "alerts unreadable" // as the run finds
			s.unwritten = s.pending(at(5), firing(fleet.Receiver, fleet.DataBroken, "data"))
			s.deliver(at(5), e.target())
			if got := e.titles(); got != "@receiver: data-broken" {
				t.Errorf("sent %q", got)
			}
			s.deliver(at(10), e.target())
			if got := e.titles(); got != "" {
				t.Errorf("sent again %q", got)
			}
			s.unwritten = append(s.unwritten, s.pending(at(15), resolved("lab-1", fleet.Silent))...)
			s.deliver(at(15), e.target())
			if got := e.titles(); got != "[RESOLVED] lab-1: silent" {
				t.Errorf("then sent %q", got)
			}

			d.Fail(nil)
			s.memory.ReadOnly = false
			for _, a := range s.unwritten {
				s.rows(a.At, a)
			}
			s.unwritten = nil
			s.rows(at(20), resolved(fleet.Receiver, fleet.DataBroken))
			s.deliver(at(20), e.target())
			if got := e.titles(); got != "[RESOLVED] @receiver: data-broken" {
				t.Errorf("when it works again: %q", got)
			}
		})
	}
}

// TestDeliver_UnreadIsNotOverwritten: what was notified cannot be read for a run, and the
// spare folder has no copy, as after a boot. An alert that ends meanwhile is still notified.
func TestDeliver_UnreadIsNotOverwritten(t *testing.T) {
	s, e, d := newFixture(t), &fakeTarget{}, &sickdisk.Disk{}
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	s.memory = fleet.Memory{Data: on(d, s.dir).Docs, Spare: local.Folder(d, t.TempDir())}
	s.rows(at(0), firing("lab-1", fleet.Silent, "nothing"))
	s.deliver(at(0), e.target())
	e.titles()
	s.memory.Spare = local.Folder(d, t.TempDir())

	path := filepath.Join(s.dir, receiver.NotifyDoc)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Fail(func(op, of string, _ int64) error {
		if op == "read" && of == path {
			return unix.EIO
		}
		return nil
	})
	s.rows(at(5), resolved("lab-1", fleet.Silent), firing("lab-2", fleet.Silent, "nothing"))
	for range 2 {
		if _, err := Deliver(t.Context(), s.options(at(5)), []Target{e.target()}); err == nil {
			t.Error("a run that stores nothing succeeds")
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("it was %s\nand is %s %v", before, after, err)
	}
	if got := e.titles(); got != "lab-2: silent" {
		t.Errorf("sent %q", got)
	}
	d.Fail(nil)
	for minute := 10; minute <= 15; minute += 5 {
		s.deliver(at(minute), e.target())
	}
	if got := e.titles(); got != "[RESOLVED] lab-1: silent" {
		t.Errorf("when it can be read: %q", got)
	}
}

// TestDeliver_AlertsRotated: a target that was notified of an alert gets its resolved
// message even if the row is missing; not before the end, not if it was silenced, and
// once.
func TestDeliver_AlertsRotated(t *testing.T) {
	s, e := newFixture(t), &fakeTarget{}
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	s.rows(at(0), firing("lab-1", fleet.Silent, "nothing"), firing("lab-2", fleet.FatalOnly, "gated"), firing("lab-3", fleet.Gone, "nothing"))
	s.deliver(at(0), e.target())
	e.titles()
	hushed := resolved("lab-3", fleet.Gone)
	hushed.Silenced = true
	s.rows(at(5), hushed)
	if err := os.Rename(filepath.Join(s.dir, local.AlertsFile), filepath.Join(s.dir, "alerts.jsonl.1")); err != nil {
		t.Fatal(err)
	}
	s.rows(at(6), hushed)
	s.deliver(at(10), e.target())
	if got := e.titles(); got != "" {
		t.Errorf("while both are open: %q", got)
	}
	s.track(resolved("lab-1", fleet.Silent))
	e.failing = true
	s.deliver(at(15), e.target())
	e.failing = false
	s.deliver(at(20), e.target())
	s.deliver(at(25), e.target())
	if len(e.received) != 1 || e.received[0].Title != "cis490: [RESOLVED] lab-1: silent" || e.received[0].Alerts[0].Since != now {
		t.Errorf("when one is over: %+v", e.received)
	}
}

// pending are rows of a run that are not in alerts.jsonl.
func (s *fixture) pending(at time.Time, rows ...fleet.Alert) []fleet.Alert {
	for i := range rows {
		rows[i].At, rows[i].Hour = at, at.Truncate(time.Hour)
		s.track(rows[i])
	}
	return rows
}

// options are those of a run at a time.
func (s *fixture) options(at time.Time) Options {
	return Options{
		Memory: s.memory, Alerts: s.alerts, Now: at, Open: s.open, Unwritten: s.unwritten, SyslogErr: s.syslogErr,
		RepeatAfter: 4 * time.Hour, Together: s.together,
		Wait: func(context.Context, int) error { return nil }, Log: slog.New(slog.DiscardHandler),
	}
}
