package ledger_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ledger"
)

// TestLedger_KeepsWhatTheClockSaid: while the clock is behind the last row, rows keep their
// order and the clock's reading.
func TestLedger_KeepsWhatTheClockSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	start := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	now := start
	l := open(t, path, func() time.Time { return now })
	text := `","clock":"2001-01-01T00:00:00Z"}` // of a host: nothing but text
	for _, d := range []time.Duration{0, 8 * time.Hour, time.Minute, 2 * time.Minute, 9 * time.Hour} {
		now = start.Add(d)
		if err := l.Append(func(at time.Time) any { return row{At: at, S: text} }); err != nil {
			t.Fatal(err)
		}
	}
	at := []time.Duration{0, 8 * time.Hour, 8*time.Hour + 1, 8*time.Hour + 2, 9 * time.Hour}
	clock := []time.Duration{0, 8 * time.Hour, time.Minute, 2 * time.Minute, 9 * time.Hour}
	i := 0
	for r, err := range ledger.Rows(disk.OS{}, path, "at", start) {
		if err != nil {
			t.Fatal(err)
		}
		if !r.At.Equal(start.Add(at[i])) || !r.Clock().Equal(start.Add(clock[i])) {
			t.Errorf("row %d is of %s, written at %s: %s", i, r.At, r.Clock(), r.Line)
		}
		i++
	}
	if i != len(at) {
		t.Errorf("%d rows", i)
	}
}

// TestLedger_AnyClock: whatever the clock does, no row is lost, rows keep their order, and
// a window has each row that was written in it.
func TestLedger_AnyClock(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		path := filepath.Join(t.TempDir(), "x.jsonl")
		now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
		l := open(t, path, func() time.Time { return now })
		var written []time.Time
		for i := range 200 {
			if rnd.IntN(10) == 0 {
				now = now.Add(time.Duration(rnd.Int64N(int64(96*time.Hour))) - 48*time.Hour)
			}
			now = now.Add(time.Duration(rnd.IntN(600)) * time.Second)
			appendN(t, l, i)
			written = append(written, now)
		}
		from := now.Add(-24 * time.Hour)
		there := map[int]bool{}
		last := -1
		for _, n := range numbers(t, path, from) {
			if n <= last {
				t.Fatalf("seed %d: row %d comes after row %d", seed, n, last)
			}
			there[n], last = true, n
		}
		for n, at := range written {
			if !at.Before(from) && !there[n] {
				t.Errorf("seed %d: row %d, written at %s, is not in the window from %s", seed, n, at, from)
			}
		}
	}
}
