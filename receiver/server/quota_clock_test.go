package server

import (
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
)

// TestQuota_RowsOfAClockThatWasAhead: what a host brought hours ago has flowed back,
// whatever time its rows got.
func TestQuota_RowsOfAClockThatWasAhead(t *testing.T) {
	dir := t.TempDir()
	start := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	now := start.Add(8 * time.Hour)
	x := local.Open(local.Options{FS: disk.OS{}, Dir: dir, Now: func() time.Time { return now }}).Index
	for hour := range 5 {
		row := receiver.Entry{Host: "lab-01", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Digest: ident.Digest(strings.Repeat("ab", 32)), Size: 80}
		if err := x.Append([]receiver.Entry{row}); err != nil {
			t.Fatal(err)
		}
		now = start.Add(time.Duration(hour+1) * time.Hour) // set right after the first
	}
	q := newQuotas(0, 100, false, func() time.Time { return now })
	if err := q.count(t.Context(), x, start.Add(9*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := q.acquire("lab-01", "", 80); err != nil {
		t.Errorf("an hour after the last: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}
