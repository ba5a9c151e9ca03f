package local

import (
	"bytes"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"cis490/internal/ledger"
	"cis490/receiver"
)

// filePerm is the mode of a log: the owner writes, the group may read.
const filePerm = 0o640

// format describes how the rows of a log are written and read.
type format[T any] struct {
	file, timeKey string
	stamp         func(*T, time.Time)          // sets a row's time
	when          func(T) time.Time            // a row's time
	own           bool                         // rows have their own time when they are appended
	decode        func(ledger.Row) (T, bool)   // false: damaged
	match         func(T, receiver.Query) bool // nil: all match
	copied        func(Options, []T) error     // called before rows are copied; nil: nothing to do
	// flushed is for processes that do not write the file: it returns how many bytes of a file
	// of this size are durable. Nil: each row is synced by itself, so all are durable.
	flushed func(Options, int64) (int64, error)
	most    int64 // size of the file in bytes at which its older half is removed; 0: no bound
}

// log is a *.jsonl file.
type log[T any] struct {
	format[T]
	o    Options
	path string

	mu sync.Mutex
	l  *ledger.Ledger // nil: not open for appending
}

func newLog[T any](o Options, f format[T]) *log[T] {
	return &log[T]{format: f, o: o, path: filepath.Join(o.Dir, f.file)}
}

// Open opens or creates the file and cuts a torn last line.
func (l *log[T]) Open() error {
	_, err := l.writer()
	return err
}

func (l *log[T]) writer() (*ledger.Ledger, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.l != nil {
		return l.l, nil
	}
	if err := l.settle(); err != nil {
		return nil, err
	}
	opened, err := ledger.Open(ledger.Options{FS: l.o.FS, Path: l.path, TimeKey: l.timeKey, Perm: filePerm, Now: l.o.Now})
	if err == nil {
		l.l = opened
	}
	return opened, err
}

// Append appends rows with one sync. Calls that wait at the same time share it.
func (l *log[T]) Append(rows []T) error { return l.append(rows, l.own) }

// Copy appends rows with their own times.
func (l *log[T]) Copy(rows []T) error {
	if l.copied != nil {
		if err := l.copied(l.o, rows); err != nil {
			return err
		}
	}
	return l.append(rows, true)
}

func (l *log[T]) append(rows []T, own bool) error {
	if len(rows) == 0 {
		return nil
	}
	w, err := l.writer()
	if err != nil {
		return err
	}
	build := l.build(rows)
	if own {
		err = w.AppendAt(build, func(i int) time.Time { return l.when(rows[i]) })
	} else {
		err = w.AppendAll(build)
	}
	if err != nil || l.most == 0 {
		return err
	}
	return l.shorten(w)
}

func (l *log[T]) build(rows []T) []func(time.Time) any {
	build := make([]func(time.Time) any, len(rows))
	for i := range rows {
		build[i] = func(at time.Time) any {
			l.stamp(&rows[i], at)
			return rows[i]
		}
	}
	return build
}

// shorten removes the older half of a file that is too large.
func (l *log[T]) shorten(w *ledger.Ledger) error {
	fi, err := l.o.FS.Lstat(l.path)
	if err != nil || fi.Size() <= l.most {
		return err
	}
	left := fi.Size()
	return w.Keep(func(row ledger.Row) bool {
		left -= int64(len(row.Line)) + 1
		return left < l.most/2
	})
}

// Healthy checks the open file, or that the existing one can be opened.
func (l *log[T]) Healthy() error {
	l.mu.Lock()
	w := l.l
	l.mu.Unlock()
	if w != nil {
		return w.Healthy()
	}
	f, err := l.o.FS.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.Close()
	}
	return err
}

// Close closes the file.
func (l *log[T]) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.l == nil {
		return nil
	}
	err := l.l.Close()
	l.l = nil
	return err
}

// Last returns the time of the last whole row.
func (l *log[T]) Last() (time.Time, bool, error) {
	row, ok, err := ledger.Last(l.settled(), l.path, l.timeKey)
	return row.At, ok, err
}

// Since yields rows from the offset that a bisection finds.
func (l *log[T]) Since(from time.Time) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for line, err := range ledger.Rows(l.settled(), l.path, l.timeKey, from) {
			var row T
			if err == nil {
				var ok bool
				if row, ok = l.decode(line); !ok {
					continue
				}
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// Before searches block by block from the end. Blocks without the query's bytes are not
// decoded, which makes searches fast.
func (l *log[T]) Before(q receiver.Query) iter.Seq2[receiver.Found[T], error] {
	return func(yield func(receiver.Found[T], error) bool) {
		before := int64(-1)
		if q.Cursor != "" {
			n, err := strconv.ParseInt(q.Cursor, 10, 64)
			if err != nil || n < 0 {
				yield(receiver.Found[T]{}, receiver.ErrCursor)
				return
			}
			before = n
		} else if !q.Until.IsZero() {
			at, err := ledger.Start(l.settled(), l.path, l.timeKey, q.Until.Add(time.Minute))
			if err != nil {
				yield(receiver.Found[T]{}, err)
				return
			}
			before = at + 64<<10 // Start may be a little early, but only by a few rows
		}
		for place, err := range ledger.Backward(l.settled(), l.path, l.timeKey, before, needles(q)...) {
			found := receiver.Found[T]{At: place.At}
			if place.Offset > 0 {
				found.Cursor = strconv.FormatInt(place.Offset, 10)
			}
			if err == nil && place.Line != nil {
				found.Row, found.Match = l.decode(place.Row)
				found.Match = found.Match && (q.Until.IsZero() || !place.At.After(q.Until)) && (l.match == nil || l.match(found.Row, q))
			}
			if !yield(found, err) || err != nil {
				return
			}
		}
	}
}

// needles returns strings that every matching line contains.
func needles(q receiver.Query) (all [][]byte) {
	quoted := func(key, value string) {
		all = append(all, append(append([]byte(`"`+key+`":"`), value...), '"'))
	}
	if q.Host != "" {
		quoted("host", q.Host)
	}
	if q.Episode != "" {
		quoted("episode", string(q.Episode))
	}
	if q.Prefix != "" {
		all = append(all, bytes.Join([][]byte{[]byte(`:"`), []byte(q.Prefix)}, nil))
	}
	return all
}

// Follow returns a tail of the file.
func (l *log[T]) Follow(from time.Time) receiver.Follower[T] {
	return follower[T]{ledger.NewTail(l.settled(), l.path, l.timeKey, from), l.decode}
}

type follower[T any] struct {
	tail   *ledger.Tail
	decode func(ledger.Row) (T, bool)
}

// Read decodes the lines that were appended.
func (f follower[T]) Read(begin func(), add func(T)) error {
	err := f.tail.Read(begin, func(line ledger.Row) {
		if row, ok := f.decode(line); ok {
			add(row)
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
