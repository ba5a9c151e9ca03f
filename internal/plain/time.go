package plain

import (
	"fmt"
	"time"
)

const layout = "2006-01-02 15:04:05 UTC"

// Time formats a time for people, in UTC because texts travel between machines. No time
// is "-".
func Time(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(layout)
}

// ParseTime reads a date, or a time as Time prints it or as in RFC 3339. Without a zone it
// is in UTC.
func ParseTime(s string) (time.Time, error) {
	for _, form := range []string{
		time.RFC3339, layout, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly,
	} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("want a date such as 2026-03-01, or a time such as 2026-03-01 12:00, got %q", s)
}
