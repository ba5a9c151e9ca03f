package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"cis490/internal/disk"
)

// Tail follows a ledger that another process writes: each Read yields the rows appended
// since the one before. It is for one goroutine.
type Tail struct {
	fsys          disk.FS
	path, timeKey string
	from          time.Time

	info    fs.FileInfo // of the file at the last read; nil before the first
	offset  int64       // what lies before it was yielded
	last    []byte      // the last line before offset, to notice that the file was cut and grew again
	skipped int         // lines without a time
}

// NewTail returns a tail that begins with the rows at from or later. The file
// need not exist yet.
func NewTail(fsys disk.FS, path, timeKey string, from time.Time) *Tail {
	return &Tail{fsys: fsys, path: path, timeKey: timeKey, from: from}
}

// Read yields the new rows. begin is called first where all that was yielded
// before is void: at the first read, and after the file was replaced or cut. Without a file
// the error is fs.ErrNotExist.
func (t *Tail) Read(begin func(), yield func(Row)) error {
	fi, err := t.fsys.Lstat(t.path)
	if err != nil {
		return err
	}
	if t.info != nil && disk.SameFile(fi, t.info) && fi.Size() == t.offset && fi.ModTime().Equal(t.info.ModTime()) {
		return nil
	}
	f, err := t.fsys.OpenFile(t.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if fi, err = f.Stat(); err != nil {
		return err
	}
	if t.info == nil || !disk.SameFile(fi, t.info) || !t.continues(f, fi.Size()) {
		begin()
		t.last, t.info, t.skipped = nil, nil, 0
		if t.offset, err = bisect(f, fi.Size(), t.timeKey, t.from); err != nil {
			return fmt.Errorf("read %s: %w", t.path, err)
		}
	}
	t.info = fi
	lines := linesOf(f, t.offset, fi.Size(), 256<<10)
	var long []byte
	for {
		line, took, err := nextLine(lines, &long)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			t.info = nil
			return fmt.Errorf("read %s: %w", t.path, err)
		}
		t.offset += took
		t.last = append(t.last[:0], line...)
		switch at, ok := rowTime(line, t.timeKey); {
		case !ok:
			t.skipped++
		case !at.Before(t.from):
			yield(Row{at, line})
		}
	}
}

// Skipped returns how many lines without a time Read has passed over.
func (t *Tail) Skipped() int { return t.skipped }

// continues reports whether the file still has the rows that were yielded.
func (t *Tail) continues(f io.ReaderAt, size int64) bool {
	if size < t.offset {
		return false
	}
	if len(t.last) == 0 {
		return true
	}
	got := make([]byte, len(t.last)+1)
	n, _ := f.ReadAt(got, t.offset-int64(len(got))) // a short read compares as different
	return n == len(got) && bytes.Equal(got[:n-1], t.last) && got[n-1] == '\n'
}
