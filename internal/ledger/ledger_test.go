package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ledger"
)

type row struct {
	At time.Time `json:"at"`
	N  int       `json:"n"`
	S  string    `json:"s,omitempty"`
}

func open(t *testing.T, path string, now func() time.Time) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(ledger.Options{FS: disk.OS{}, Path: path, TimeKey: "at", Perm: 0o640, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func appendN(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	if err := l.Append(func(at time.Time) any { return row{At: at, N: n} }); err != nil {
		t.Fatal(err)
	}
}

func numbers(t *testing.T, path string, from time.Time) []int {
	t.Helper()
	var got []int
	for r, err := range ledger.Rows(disk.OS{}, path, "at", from) {
		if err != nil {
			t.Fatal(err)
		}
		var v row
		if err := json.Unmarshal(r.Line, &v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v.N)
	}
	return got
}

func TestLedger_CutsTornLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	now := time.Unix(1000, 0)
	l := open(t, path, func() time.Time { return now })
	appendN(t, l, 1)
	_ = l.Close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"at":"1970-01-01T00:16:41Z","n":2`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	appendN(t, open(t, path, func() time.Time { return now }), 3)
	if got := fmt.Sprint(numbers(t, path, time.Time{})); got != "[1 3]" {
		t.Errorf("rows = %s", got)
	}
}

func TestLedger_TimeNeverDecreases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	now := time.Unix(5000, 0)
	clock := func() time.Time { return now }
	l := open(t, path, clock)
	appendN(t, l, 1)
	now = time.Unix(10, 0)
	appendN(t, l, 2)
	_ = l.Close()
	appendN(t, open(t, path, clock), 3)
	var last time.Time
	for r, err := range ledger.Rows(disk.OS{}, path, "at", time.Time{}) {
		if err != nil || r.At.Before(last) {
			t.Errorf("row at %v after %v (%v)", r.At, last, err)
		}
		last = r.At
	}
}

func TestLedger_ManyWritersEachRowOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path, time.Now)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := l.Append(func(at time.Time) any { return row{At: at, N: i} }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[int]int{}
	for _, n := range numbers(t, path, time.Time{}) {
		seen[n]++
	}
	if len(seen) != 200 {
		t.Errorf("%d distinct rows, want 200", len(seen))
	}
}

// TestLedger_Keep: rows that are appended while others are dropped are there, and so is the
// last one.
func TestLedger_Keep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path, time.Now)
	for n := range 10 {
		appendN(t, l, n)
	}
	odd := func(r ledger.Row) bool {
		var v row
		return json.Unmarshal(r.Line, &v) == nil && v.N%2 == 1
	}
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() { appendN(t, l, 1001+2*n) })
	}
	if err := l.Keep(odd); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := numbers(t, path, time.Time{}); len(got) < 105 || len(got) > 106 || !slices.Equal(got[:4], []int{1, 3, 5, 7}) {
		t.Errorf("kept %v, want the odd ones, all that were appended, and 8 at most", got)
	}
	appendN(t, l, 8)
	for range 2 {
		if err := l.Keep(odd); err != nil {
			t.Fatal(err)
		}
	}
	if got := numbers(t, path, time.Time{}); got[len(got)-1] != 8 {
		t.Errorf("kept %v, want the last row too", got)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLedger_TooLongRowFailsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path, time.Now)
	if err := l.Append(func(at time.Time) any { return row{At: at, S: strings.Repeat("x", ledger.MaxLine)} }); err == nil {
		t.Error("a row over the limit was accepted")
	}
	appendN(t, l, 1)
	if got := fmt.Sprint(numbers(t, path, time.Time{})); got != "[1]" {
		t.Errorf("rows = %s", got)
	}
}

func TestLedger_FollowsAReplacedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path, time.Now)
	appendN(t, l, 1)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 2)
	if got := fmt.Sprint(numbers(t, path, time.Time{})); got != "[2]" {
		t.Errorf("rows = %s", got)
	}
}

func TestRows_WindowEqualsFilter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	var buf bytes.Buffer
	const n = 5000
	for i := range n {
		pad := strings.Repeat("y", i%97)
		if i%500 == 250 {
			buf.WriteString("garbage, no time\n")
		}
		if i == 3000 {
			pad = strings.Repeat("z", 2*ledger.MaxLine) // an oversize line is skipped
		}
		b, err := json.Marshal(row{At: time.Unix(int64(i/3), 0).UTC(), N: i, S: pad})
		if err != nil {
			t.Fatal(err)
		}
		buf.Write(b)
		buf.WriteByte('\n')
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for from := int64(-1); from < n/3+2; from += 37 {
		want := 0
		for i := range n {
			if int64(i/3) >= from && i != 3000 {
				want++
			}
		}
		if got := len(numbers(t, path, time.Unix(from, 0))); got != want {
			t.Errorf("from %d: %d rows, want %d", from, got, want)
		}
	}
}

func TestRows_MissingFileIsEmpty(t *testing.T) {
	for _, err := range ledger.Rows(disk.OS{}, filepath.Join(t.TempDir(), "none"), "at", time.Time{}) {
		t.Errorf("yielded %v", err)
	}
}

func TestLedger_CloseThenAppend(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x.jsonl"), time.Now)
	_ = l.Close()
	if err := l.Append(func(at time.Time) any { return row{At: at} }); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("Append after Close = %v", err)
	}
}

// FuzzOpen: whatever the file contained, complete earlier lines survive, the torn end is
// removed, and the next row is a line of its own.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("{\"at\":\"2026-01-01T00:00:00Z\"}\n{\"at\":"))
	f.Add([]byte("\n\n"))
	f.Add([]byte("no newline"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "x.jsonl")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, path, time.Now)
		appendN(t, l, 7)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		whole := content[:bytes.LastIndexByte(content, '\n')+1]
		if !bytes.HasPrefix(got, whole) {
			t.Errorf("earlier lines changed: %q", got)
		}
		if rest := got[len(whole):]; bytes.Count(rest, []byte("\n")) != 1 || !bytes.Contains(rest, []byte(`"n":7}`)) {
			t.Errorf("the row does not stand alone: %q", rest)
		}
	})
}

func TestLast_IsTheLastWholeRow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	if _, ok, err := ledger.Last(disk.OS{}, path, "at"); ok || err != nil {
		t.Errorf("no file: %v, %v", ok, err)
	}
	for content, want := range map[string]string{
		"":                                 "",
		`{"at":"1970-01-01T00:16:40Z"`:     "",
		"{\"n\":1}\n{\"n\":2}\n":           `{"n":2}`,
		"{\"n\":1}\n{\"n\":2}\n{\"at\":\"": `{"n":2}`,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r, ok, err := ledger.Last(disk.OS{}, path, "at")
		if err != nil || string(r.Line) != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, %v", content, r.Line, ok, err)
		}
	}
}

// TestRows_AHoleIsNoLedger: a sparse file that would take days to read is an error at once,
// wherever its window begins.
func TestRows_AHoleIsNoLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hole.jsonl")
	if err := os.WriteFile(path, []byte(`{"at":"2026-01-01T00:00:00Z"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<40); err != nil {
		t.Skip(err)
	}
	for _, from := range []time.Time{{}, time.Now()} {
		var failed error
		for _, err := range ledger.Rows(disk.OS{}, path, "at", from) {
			failed = err
		}
		if failed == nil || !strings.Contains(failed.Error(), "is this a ledger?") {
			t.Errorf("from %v: %v", from, failed)
		}
	}
}

// TestLedger_AppendWith: rows are written before the flush, count as durable after it, and are
// gone if it failed. The next rows follow the last good ones.
func TestLedger_AppendWith(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path, time.Now)
	appendN(t, l, 1)
	with := func(n int, flush func() error) error {
		return l.AppendWith([]func(time.Time) any{
			func(at time.Time) any { return row{At: at, N: n} }, func(at time.Time) any { return row{At: at, N: n + 1} },
		}, flush)
	}
	before := l.Durable()
	err := with(2, func() error {
		if got := numbers(t, path, time.Time{}); !slices.Equal(got, []int{1, 2, 3}) || l.Durable() != before {
			t.Errorf("during the flush: rows %v, durable %d, before %d", got, l.Durable(), before)
		}
		return nil
	})
	if fi, stat := os.Stat(path); err != nil || stat != nil || l.Durable() != fi.Size() {
		t.Errorf("after it: %v, durable %d of %d", err, l.Durable(), fi.Size())
	}
	broken := errors.New("the drive is gone")
	if err := with(4, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a failed flush: %v", err)
	}
	if err := l.Healthy(); err != nil {
		t.Error(err)
	}
	if got := numbers(t, path, time.Time{}); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("after a failed flush: rows %v", got)
	}
	appendN(t, l, 6)
	if got := numbers(t, path, time.Time{}); !slices.Equal(got, []int{1, 2, 3, 6}) {
		t.Errorf("at last: rows %v", got)
	}
}

// TestLedger_Cut: the rows from an offset on are gone, for good, and time goes on.
func TestLedger_Cut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := open(t, path, func() time.Time { return now })
	for n := range 4 {
		appendN(t, l, n)
	}
	last, _, err := ledger.Last(disk.OS{}, path, "at")
	if err != nil {
		t.Fatal(err)
	}
	var at int64
	for place, err := range ledger.Backward(disk.OS{}, path, "at", -1) {
		if at = place.Offset; err != nil || bytes.Contains(place.Line, []byte(`"n":2`)) {
			break
		}
	}
	if err := errors.Join(l.Cut(at), l.Cut(1<<40)); err != nil || l.Durable() != at {
		t.Fatalf("%v, durable %d, want %d", err, l.Durable(), at)
	}
	now = now.Add(-time.Hour)
	appendN(t, l, 9)
	if got := numbers(t, path, time.Time{}); !slices.Equal(got, []int{0, 1, 9}) {
		t.Errorf("rows %v", got)
	}
	if again, _, err := ledger.Last(disk.OS{}, path, "at"); err != nil || !again.At.After(last.At) {
		t.Errorf("the new row is from %v, the one that was cut from %v, %v", again.At, last.At, err)
	}
}
