package plain_test

import (
	"testing"
	"time"

	"cis490/internal/plain"
)

func TestTime_CanBePasted(t *testing.T) {
	at := time.Date(2026, 3, 1, 13, 30, 5, 999, time.FixedZone("CET", 3600))
	text := plain.Time(at)
	if want := "2026-03-01 12:30:05 UTC"; text != want {
		t.Errorf("Time = %q, want %q", text, want)
	}
	if got := plain.Time(time.Time{}); got != "-" {
		t.Errorf("Time of no time = %q", got)
	}
	for in, want := range map[string]string{
		text:                        text,
		"2026-03-01":                "2026-03-01 00:00:00 UTC",
		"2026-03-01 12:30":          "2026-03-01 12:30:00 UTC",
		"2026-03-01 12:30:05":       text,
		"2026-03-01T12:30":          "2026-03-01 12:30:00 UTC",
		"2026-03-01T12:30:05":       text,
		"2026-03-01T13:30:05+01:00": text,
	} {
		if got, err := plain.ParseTime(in); err != nil || plain.Time(got) != want {
			t.Errorf("ParseTime(%q) = %s, %v; want %s", in, plain.Time(got), err, want)
		}
	}
	for _, in := range []string{"", "tomorrow", "2026-02-30", "12:30", "2026-03-01 12:30 CET"} {
		if got, err := plain.ParseTime(in); err == nil {
			t.Errorf("ParseTime(%q) = %s", in, got)
		}
	}
}
