package silences_test

import (
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
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
	if err := silences.Bridge(l, now); err != nil {
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
	if err := silences.Bridge(l, now); err != nil || len(read()) != 3 {
		t.Errorf("bridged twice: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
