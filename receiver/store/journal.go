package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/receiver/index"
)

// The journal makes many small uploads durable with one commit of the disk:
// body, name and row of each are one line of a ledger, and all that wait at the
// same time share its fsync. After that line an upload is answered; its file and
// then its row are settled soon after, and the line is forgotten. A crash in
// between costs nothing: start settles what the journal still has.
//
// A line is done with when its row is in the index, as a row is only written
// after its file is durable. So settling twice changes nothing.
const (
	journalDir    = "journal"
	journalEnding = ".jsonl"
	journalKey    = "at"
)

const (
	// maxWaiting is how many bytes of uploads may wait to be settled; beyond it
	// uploads take the longer way, at the pace of the disk.
	maxWaiting = 8 << 20
	// maxSegment is the size from which a file of the journal is ended.
	maxSegment = 4 << 20
)

// line is one upload in the journal.
type line struct {
	At      time.Time       `json:"at"`
	Host    ident.Host      `json:"host"`
	Episode ident.EpisodeID `json:"episode"`
	Digest  ident.Digest    `json:"sha256"`
	Commit  ident.Commit    `json:"commit,omitempty"`
	Body    []byte          `json:"body"`
}

// cost is what a line counts for while it waits.
func (l *line) cost() int64 { return int64(len(l.Body)) + 512 }

func (l *line) key() index.Key { return index.Key{Host: l.Host, Episode: l.Episode} }

func (l *line) row() index.Row {
	return index.Row{ReceivedAt: l.At, Host: l.Host, Episode: l.Episode, Digest: l.Digest, Size: int64(len(l.Body)), Commit: l.Commit}
}

// journal is the open journal.
type journal struct {
	s    *Store
	wake chan struct{}

	// writing is held shared while a line is written, alone to end a file.
	writing sync.RWMutex
	l       *ledger.Ledger // nil: the next line begins a file
	n       int            // of its name
	old     []string       // ended files; all their lines are in waiting or settled

	settling sync.Mutex

	mu      sync.Mutex
	waiting map[index.Key]*line
	order   []*line
	bytes   int64 // of bodies waiting
	segment int64 // written to the open file
	failed  error // of the last settling
}

func (s *Store) newJournal() *journal {
	return &journal{s: s, wake: make(chan struct{}, 1), waiting: map[index.Key]*line{}}
}

func (j *journal) dir() string { return filepath.Join(j.s.o.DataDir, journalDir) }

// takes tells whether an upload of that size may go through the journal now.
func (j *journal) takes(size int64) bool {
	if size > j.s.o.Journaled {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes+size <= maxWaiting
}

// find returns the row of an upload that waits to be settled.
func (j *journal) find(k index.Key) (index.Row, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l, ok := j.waiting[k]; ok {
		return l.row(), true
	}
	return index.Row{}, false
}

// add makes an upload durable. The caller has the key's lock.
func (j *journal) add(u Upload, body []byte) (index.Row, error) {
	// While nothing can be settled nothing more is taken.
	j.mu.Lock()
	failed := j.failed != nil
	j.mu.Unlock()
	if failed {
		if err := j.settle(); err != nil {
			return index.Row{}, err
		}
	}
	l := &line{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Commit: u.Commit, Body: body}
	if err := j.write(l); err != nil {
		return index.Row{}, fmt.Errorf("journal upload: %w", err)
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return l.row(), nil
}

func (j *journal) write(l *line) error {
	j.writing.RLock()
	for j.l == nil {
		j.writing.RUnlock()
		if err := j.begin(); err != nil {
			return err
		}
		j.writing.RLock()
	}
	defer j.writing.RUnlock()
	if err := j.l.Append(func(at time.Time) any { l.At = at; return l }); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting[l.key()] = l
	j.order = append(j.order, l)
	j.bytes += l.cost()
	j.segment += l.cost()
	return nil
}

// begin opens the next file, if none is open.
func (j *journal) begin() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.l != nil {
		return nil
	}
	l, err := ledger.Open(ledger.Options{FS: j.s.o.FS, Path: j.path(j.n + 1), TimeKey: journalKey, Perm: filePerm, Now: j.s.o.Now})
	if err != nil {
		return err
	}
	j.l, j.n = l, j.n+1
	return nil
}

func (j *journal) path(n int) string {
	return filepath.Join(j.dir(), fmt.Sprintf("%09d%s", n, journalEnding))
}

// end ends the open file if it is large enough, so that it can be removed once
// its lines are settled, and returns what there is to settle.
func (j *journal) end(atLeast int64) ([]*line, error) {
	j.mu.Lock()
	large := j.segment >= atLeast
	j.mu.Unlock()
	if large {
		j.writing.Lock() // lines that are being written are waiting after it
		defer j.writing.Unlock()
	}
	if large && j.l != nil {
		// Healthy, so that no line that failed is left in a file that may have to
		// be settled by a start.
		if err := errors.Join(j.l.Healthy(), j.l.Close()); err != nil {
			return nil, fmt.Errorf("end file of the journal: %w", err)
		}
		j.old = append(j.old, j.path(j.n))
		j.l = nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if large {
		j.segment = 0
	}
	return slices.Clone(j.order), nil
}

// settle gives all that waits its file and its row.
func (j *journal) settle() error { return j.settleFrom(maxSegment) }

// settleFrom also ends an open file of that size or more.
func (j *journal) settleFrom(size int64) (err error) {
	j.settling.Lock()
	defer j.settling.Unlock()
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.failed = err
	}()
	lines, err := j.end(size)
	if err != nil {
		return err
	}
	if err := j.s.settleLines(lines, false); err != nil {
		return err
	}
	j.mu.Lock()
	for _, l := range lines {
		delete(j.waiting, l.key())
		j.bytes -= l.cost()
	}
	j.order = slices.Clone(j.order[len(lines):])
	j.mu.Unlock()
	for len(j.old) > 0 {
		if err := j.s.o.FS.Remove(j.old[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove settled file of the journal: %w", err)
		}
		j.old = j.old[1:]
	}
	return nil
}

// idle tells whether nothing waits, though a file is open.
func (j *journal) idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.order) == 0 && j.segment > 0
}

// recoverJournal settles what a crash left in the journal. Rows that are there
// say that their file is too.
func (s *Store) recoverJournal() error {
	j := s.journal
	entries, err := s.o.FS.ReadDir(j.dir())
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	for _, e := range entries { // in the order of their numbers
		n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), journalEnding))
		if err != nil || j.path(n) != filepath.Join(j.dir(), e.Name()) {
			s.o.Log.Warn("file of another hand in the journal", "path", filepath.Join(j.dir(), e.Name()))
			continue
		}
		j.n = max(j.n, n)
		if err := s.recoverSegment(j.path(n)); err != nil {
			return fmt.Errorf("open store: settle journal: %w", err)
		}
	}
	return nil
}

func (s *Store) recoverSegment(path string) error {
	// Opening cuts a torn line off and makes sure of the rest: what is settled
	// by it must not be gone after the next power cut.
	l, err := ledger.Open(ledger.Options{FS: s.o.FS, Path: path, TimeKey: journalKey, Perm: filePerm, Now: s.o.Now})
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	var lines []*line
	want := map[index.Key]bool{}
	var from time.Time
	for r, err := range ledger.Rows(s.o.FS, path, journalKey, time.Time{}) {
		if err != nil {
			return err
		}
		l := &line{}
		if err := json.Unmarshal(r.Line, l); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if from.IsZero() {
			from = l.At
		}
		lines, want[l.key()] = append(lines, l), true
	}
	if len(lines) > 0 {
		// A row is written after its line; the day is for a clock that was set back.
		found, err := s.o.Index.Find(from.Add(-24*time.Hour), want)
		if err != nil {
			return err
		}
		lines = slices.DeleteFunc(lines, func(l *line) bool {
			done := found[l.key()]
			found[l.key()] = true // a second line of it was never answered
			return done
		})
		if err := s.settleLines(lines, true); err != nil {
			return err
		}
		s.o.Log.Info("journal settled", "count", len(lines))
	}
	return s.o.FS.Remove(path)
}

// readBody reads a body that goes into the journal.
func (s *Store) readBody(u Upload, body io.Reader) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, u.Size))
	got, err := s.copy(b, body, u.Size)
	if err != nil {
		return nil, err
	}
	if got != u.Digest {
		return nil, fmt.Errorf("%w: got %s", ErrDigest, got)
	}
	return b.Bytes(), nil
}
