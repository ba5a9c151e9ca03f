package ledger_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ledger"
)

func line(i int) string {
	return fmt.Sprintf(`{"at":%q,"n":"#%d#"}`+"\n", time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).Format(time.RFC3339Nano), i)
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(line(i))
	}
	return b.String()
}

// A follower reads each row once, waits for a torn one, and starts again when the writer
// cut rows off, also if the file has grown past its old length since.
func TestTail_FollowsAndBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	tail := ledger.NewTail(disk.OS{}, path, "at", time.Date(2026, 1, 1, 0, 0, 2, 0, time.UTC))
	var got []string
	read := func() string {
		t.Helper()
		err := tail.Read(func() { got = nil }, func(r ledger.Row) { got = append(got, string(r.Line)) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Join(got, "\n") + "\n"
	}
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if read() != "\n" {
		t.Error("rows out of no file")
	}
	for _, c := range []struct{ file, want string }{
		{lines(0, 4), lines(2, 4)},
		{lines(0, 6) + `{"at":"2026`, lines(2, 6)},
		{lines(0, 7), lines(2, 7)},
		{lines(0, 5) + lines(9, 30), lines(2, 5) + lines(9, 30)},
		{lines(0, 3), lines(2, 3)},
	} {
		write(c.file)
		if got := read(); got != c.want {
			t.Errorf("got\n%swant\n%s", got, c.want)
		}
	}
}

func TestBackward_NewestFirstOverBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	const n = 60_000 // a few blocks
	if err := os.WriteFile(path, []byte(lines(0, n)+`{"at":"torn`), 0o600); err != nil {
		t.Fatal(err)
	}
	next := n - 1
	var middle int64
	for p, err := range ledger.Backward(disk.OS{}, path, "at", -1) {
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(line(next)); string(p.Line) != want {
			t.Fatalf("row %s, want %s", p.Line, want)
		}
		if next--; next == n/2 {
			middle = p.Offset
		}
	}
	if next != -1 {
		t.Errorf("ended before row %d", next)
	}
	for p, err := range ledger.Backward(disk.OS{}, path, "at", middle) {
		if want := strings.TrimSpace(line(n / 2)); err != nil || string(p.Line) != want {
			t.Errorf("from an offset: %s, %v", p.Line, err)
		}
		break
	}
	var found []string
	for p, err := range ledger.Backward(disk.OS{}, path, "at", -1, []byte("#7#")) {
		if err != nil {
			t.Fatal(err)
		}
		if p.Line != nil {
			found = append(found, string(p.Line))
		}
	}
	if !slices.Equal(found, []string{strings.TrimSpace(line(7))}) {
		t.Errorf("found %v", found)
	}
}
