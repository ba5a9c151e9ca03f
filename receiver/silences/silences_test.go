package silences_test

import (
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/silences"
)

var t0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// TestSilence_OfAClockThatWasAhead: a silence covers the alert that it was made for and
// not the next one, and keeps its duration.
func TestSilence_OfAClockThatWasAhead(t *testing.T) {
	dir := t.TempDir()
	now := t0.Add(8 * time.Hour)
	l := local.Open(local.Options{FS: disk.OS{}, Dir: dir, Now: func() time.Time { return now }}).Silences
	add := func(s receiver.Silence) {
		t.Helper()
		if _, err := silences.Add(l, s); err != nil {
			t.Fatal(err)
		}
	}
	read := func() map[receiver.AlertKey]receiver.Silence {
		t.Helper()
		all, err := silences.Read(l)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	add(receiver.Silence{Host: "lab-1", Symptom: "silent"})
	add(receiver.Silence{Host: "lab-2", Symptom: "silent", Until: now.Add(2 * time.Hour)})
	now = t0.Add(time.Minute) // set right
	past := func(t time.Time) time.Time { return t.Add(time.Minute - 8*time.Hour) }
	if err := silences.Bridge(l, now, past, contacts.Jump{}); err != nil {
		t.Fatal(err)
	}
	add(receiver.Silence{Host: "lab-3", Symptom: "silent"})
	for _, c := range []struct {
		host       string
		began, now time.Duration
		want       bool
	}{
		{"lab-1", 0, time.Hour, true},
		{"lab-1", time.Hour, time.Hour, false}, // another alert
		{"lab-1", 9 * time.Hour, 9 * time.Hour, false},
		{"lab-2", 0, time.Hour, true},
		{"lab-2", 0, 3 * time.Hour, false},
		{"lab-3", 0, time.Hour, true},
		{"lab-3", time.Hour, time.Hour, false},
	} {
		s := read()[receiver.AlertKey{Host: c.host, Symptom: "silent"}]
		if got := s.Covers(t0.Add(c.began), t0.Add(c.now)); got != c.want {
			t.Errorf("%s: an alert that began after %v is covered after %v: %v", c.host, c.began, c.now, got)
		}
	}
	if err := silences.Bridge(l, now, past, contacts.Jump{}); err != nil || len(read()) != 3 {
		t.Errorf("bridged twice: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSilence_EndedWhileTheClockWasAhead: it does not begin again when the clock is set right.
func TestSilence_EndedWhileTheClockWasAhead(t *testing.T) {
	const ahead = 40 * 24 * time.Hour
	now := t0.Add(ahead)
	l := local.Open(local.Options{FS: disk.OS{}, Dir: t.TempDir(), Now: func() time.Time { return now }}).Silences
	if _, err := silences.Add(l, receiver.Silence{Host: "@receiver", Symptom: "clock", Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	now = t0.Add(3 * time.Hour)
	past := func(t time.Time) time.Time { return t.Add(-ahead) }
	early, err := silences.Now(l, now, past, contacts.Jump{})
	if s := early[receiver.AlertKey{Host: "@receiver", Symptom: "clock"}]; err != nil || s.Covers(t0, now) {
		t.Errorf("before serve has seen the jump: in force again until %s, %v", s.Until, err)
	}
	if err := silences.Bridge(l, now, past, contacts.Jump{}); err != nil {
		t.Fatal(err)
	}
	all, err := silences.Read(l)
	if s := all[receiver.AlertKey{Host: "@receiver", Symptom: "clock"}]; err != nil || s.Covers(t0, now) {
		t.Errorf("in force again until %s, %v", s.Until, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSilence_WhileTheClockWasBehind: a silence keeps its end when the clock goes back and is
// set right.
func TestSilence_WhileTheClockWasBehind(t *testing.T) {
	const behind = 8 * time.Hour
	now := t0
	l := local.Open(local.Options{FS: disk.OS{}, Dir: t.TempDir(), Now: func() time.Time { return now }}).Silences
	if _, err := silences.Add(l, receiver.Silence{Host: "lab-1", Symptom: "silent", Until: t0.Add(9 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	jump := func(by time.Duration) {
		now = now.Add(by)
		past := func(at time.Time) time.Time { return at.Add(min(by, 0)) }
		for range 2 { // serve starts again
			if err := silences.Bridge(l, now, past, contacts.Jump{At: now, By: by}); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(5 * time.Minute)
	}
	now = now.Add(time.Hour)
	jump(-behind)
	jump(behind)
	all, err := silences.Read(l)
	if s := all[receiver.AlertKey{Host: "lab-1", Symptom: "silent"}]; err != nil || s.Until.Sub(t0.Add(9*time.Hour)).Abs() > time.Minute {
		t.Errorf("until %s, %v", s.Until, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
