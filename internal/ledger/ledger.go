// Package ledger reads and writes the *.jsonl files: append-only, one JSON object a line,
// readable with jq, written by one process each (docs/architecture.md).
//
// On a crash: a row whose Append returned nil is there; a row is there as a whole or not at
// all; a torn last line is cut off when the ledger is opened, so two rows never run
// together. A failed write or fsync fails every row of its batch, and the file is cut back
// to its last durable length.
//
// Time in a ledger never goes back, so that a time window can be found by bisection. While
// the clock is behind the last row, rows get that row's time plus a nanosecond, and the
// clock's reading as "clock".
//
// Rows that wait at the same time share one fsync. The rows of AppendWith share one flush of
// the file system with other files, so that a crash may keep a row and lose the files that it
// is about: whoever calls it finds such rows after a crash, and removes them with Cut. The
// ledger keeps no rows in memory: opening costs the last line, reading costs the rows of the
// window.
//
// A reader of the file sees rows that are written and not durable yet, which a crash may take
// back, with the files of AppendWith. Durable returns where they begin, in the writing process.
package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// clockKey is the field with the clock's reading, in rows written while it was behind the
// row before.
const clockKey = "clock"

// MaxLine is the largest row, newline included, in bytes.
const MaxLine = 1 << 20

// ErrClosed is returned by Append after Close.
var ErrClosed = errors.New("ledger is closed")

// Options describe a ledger.
type Options struct {
	FS      disk.FS // where; required
	Path    string  // the file; its folder must exist
	TimeKey string  // the row's time field, for windows: "received_at", "at"…
	Perm    fs.FileMode
	Now     func() time.Time // required
	// First is called with the lines of a batch before they are written. After an error they
	// are not. Nil: does nothing.
	First func(lines []byte) error
}

// Ledger is an open ledger. Its methods may be called from many goroutines.
type Ledger struct {
	o Options

	mu     sync.Mutex // guards what follows, held during a batch's write and fsync
	f      disk.File
	cut    bool      // a batch failed: the bytes beyond durable are not acknowledged rows
	last   time.Time // time of the last row
	closed bool

	durable atomic.Int64 // length up to which all is known to be on disk; changes with mu held

	queueMu sync.Mutex
	queue   []*pending
}

type pending struct {
	build func(at time.Time) any
	at    time.Time // the row's own time; zero: the clock's
	done  chan error
}

// Open opens or creates the ledger, cutting off a torn last line.
func Open(o Options) (*Ledger, error) {
	l := &Ledger{o: o}
	if err := l.reopen(); err != nil {
		return nil, err
	}
	return l, nil
}

// Append writes one row and returns when it is durable. build gets the row's
// time, which is never before that of the row above it; it is called once,
// in the order of the file, and must not block.
func (l *Ledger) Append(build func(at time.Time) any) error {
	return l.append([]func(at time.Time) any{build}, nil)
}

// AppendAll writes several rows: all of them durably or, on an error of the disk, none. A
// row that cannot be encoded does not keep the others out.
func (l *Ledger) AppendAll(build []func(at time.Time) any) error {
	if len(build) == 0 {
		return nil
	}
	return l.append(build, nil)
}

// AppendAt is AppendAll for rows that have their own time.
func (l *Ledger) AppendAt(build []func(at time.Time) any, at func(row int) time.Time) error {
	if len(build) == 0 {
		return nil
	}
	return l.append(build, at)
}

// AppendWith is AppendAll for rows that flush makes durable, as one flush of the file system
// does. After an error of flush they are cut off again, at the latest when Healthy returns nil.
func (l *Ledger) AppendWith(build []func(at time.Time) any, flush func() error) error {
	done := make(chan error, len(build))
	rows := make([]*pending, len(build))
	for i, b := range build {
		rows[i] = &pending{build: b, done: done}
	}
	l.mu.Lock()
	l.commit(rows, flush)
	l.mu.Unlock()
	return first(done, len(rows))
}

// Durable returns the length up to which all rows are durable.
func (l *Ledger) Durable() int64 { return l.durable.Load() }

// Cut removes the rows from an offset on, at which a row starts.
func (l *Ledger) Cut(at int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(); err != nil {
		return err
	}
	if at >= l.durable.Load() {
		return nil
	}
	l.durable.Store(at)
	l.cut = true
	err := l.f.Close() // nothing is pending on it
	l.f = nil
	return errors.Join(err, l.reopen())
}

func (l *Ledger) append(build []func(at time.Time) any, at func(row int) time.Time) error {
	rows := make([]*pending, len(build))
	done := make(chan error, len(build))
	for i, b := range build {
		rows[i] = &pending{build: b, done: done}
		if at != nil {
			rows[i].at = at(i)
		}
	}
	l.queueMu.Lock()
	l.queue = append(l.queue, rows...)
	l.queueMu.Unlock()

	// Whoever gets the lock writes for all who wait; the others find their result.
	l.mu.Lock()
	l.queueMu.Lock()
	batch := l.queue
	l.queue = nil
	l.queueMu.Unlock()
	if len(batch) > 0 {
		l.commit(batch, nil)
	}
	l.mu.Unlock()
	return first(done, len(rows))
}

// first returns the first error of n rows.
func first(done chan error, n int) (err error) {
	for range n {
		if e := <-done; err == nil {
			err = e
		}
	}
	return err
}

// Healthy reports whether the next Append can be expected to work: the open file is still
// the one at the path and can be written.
func (l *Ledger) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready()
}

// Close closes the ledger; rows appended before are durable.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// commit writes a batch and makes it durable, by flush or, without one, an fsync.
func (l *Ledger) commit(batch []*pending, flush func() error) {
	var buf bytes.Buffer
	err := l.ready()
	now, last := l.o.Now().UTC(), l.last
	var read, at time.Time // of the row before: what its clock said, and its time
	for i, p := range batch {
		if err != nil {
			break
		}
		if when := cmp.Or(p.at.UTC(), now); i == 0 || !when.Equal(read) {
			if read, at = when, when; at.Before(last) {
				at = last.Add(1) // so that a reader who has seen the last row sees this one too
			}
		}
		line, bad := encode(p.build(at), at, read)
		if bad != nil { // only this row fails
			p.done <- fmt.Errorf("append to %s: %w", l.o.Path, bad)
			batch[i] = nil
			continue
		}
		last = at
		buf.Write(line)
		buf.WriteByte('\n')
	}
	if err == nil && buf.Len() > 0 && l.o.First != nil {
		err = l.o.First(buf.Bytes())
	}
	if err == nil && buf.Len() > 0 {
		err = l.write(buf.Bytes(), flush)
	}
	if err == nil {
		l.last = last
	}
	for _, p := range batch {
		if p != nil {
			p.done <- err
		}
	}
}

// encode returns a row's line. It adds the clock's reading if that is not the row's time.
func encode(row any, at, read time.Time) ([]byte, error) {
	line, err := json.Marshal(row)
	if err == nil && !read.Equal(at) {
		line = fmt.Appendf(bytes.TrimSuffix(line, []byte("}")), `,"%s":"%s"}`, clockKey, read.Format(time.RFC3339Nano))
	}
	if err == nil && len(line) >= MaxLine {
		err = fmt.Errorf("row of %d bytes is over the limit of %d", len(line), MaxLine)
	}
	return line, err
}

func (l *Ledger) write(rows []byte, flush func() error) error {
	if flush == nil {
		flush = l.f.Sync
	}
	_, err := l.f.Write(rows)
	if err == nil {
		err = flush()
	}
	if err != nil {
		// What reached the disk is unknown: cut it off and start from a new descriptor next
		// time. The cut may fail too; reopen cuts again.
		err = errors.Join(err, l.f.Truncate(l.durable.Load()), l.f.Close())
		l.f, l.cut = nil, true
		return fmt.Errorf("append to %s: %w", l.o.Path, err)
	}
	l.durable.Add(int64(len(rows)))
	return nil
}

// ready makes sure that the file at the path is open. A file that another process replaced
// or cut is opened again.
func (l *Ledger) ready() error {
	if l.closed {
		return ErrClosed
	}
	if l.f != nil {
		at, err := l.o.FS.Lstat(l.o.Path)
		if err == nil {
			var open fs.FileInfo
			if open, err = l.f.Stat(); err == nil && disk.SameFile(at, open) && at.Size() == l.durable.Load() {
				return nil
			}
		}
		_ = l.f.Close() // nothing is pending on it
		l.f = nil
	}
	return l.reopen()
}

func (l *Ledger) reopen() (err error) {
	f, err := l.o.FS.OpenFile(l.o.Path, os.O_RDWR|os.O_APPEND|os.O_CREATE, l.o.Perm)
	if err != nil {
		return fault.Fix(fmt.Errorf("open ledger: %w", err),
			fmt.Sprintf("ls -ld %s %s   # must be a file that this service's user may write", filepath.Dir(l.o.Path), l.o.Path))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("open ledger %s: not a regular file", l.o.Path)
	}
	whole, lastLine, err := tail(f, fi.Size())
	if err != nil {
		return fmt.Errorf("open ledger %s: %w", l.o.Path, err)
	}
	if l.cut {
		whole = min(whole, l.durable.Load())
	}
	if whole != fi.Size() {
		if err := f.Truncate(whole); err != nil {
			return fmt.Errorf("cut torn line of %s: %w", l.o.Path, err)
		}
	}
	// One sync covers the cut, rows that a crash left unsynced and, with the folder's, the
	// name of a new file.
	if err := errors.Join(f.Sync(), l.o.FS.SyncDir(filepath.Dir(l.o.Path))); err != nil {
		return fmt.Errorf("open ledger %s: %w", l.o.Path, err)
	}
	if at, ok := rowTime(lastLine, l.o.TimeKey); ok && at.After(l.last) {
		l.last = at
	}
	l.f, l.cut = f, false
	l.durable.Store(whole)
	return nil
}
