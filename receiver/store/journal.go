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
	"sync"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver/index"
)

// The journal makes many small uploads durable with one sync: body, name and
// row of each are one record of it, and all that wait at the same time share
// the sync. After that an upload is answered; its file and then its row are
// settled soon after, and the record is forgotten. A crash in between costs
// nothing: start settles what the journal still has.
//
// A record is done with when its row is in the index, as a row is only written
// after its file is durable. So settling twice changes nothing.
const journalDir = "journal"

// segment is the size of each of the journal's two files, and so what may wait
// to be settled; beyond it uploads take the longer way, at the pace of the disk.
const segment = 8 << 20

// line is one upload in the journal: its head as JSON and a newline, then its body.
type line struct {
	At      time.Time       `json:"at"`
	Host    ident.Host      `json:"host"`
	Episode ident.EpisodeID `json:"episode"`
	Digest  ident.Digest    `json:"sha256"`
	Commit  ident.Commit    `json:"commit,omitempty"`
	body    []byte
	file    int // of the journal
}

func (l *line) key() index.Key { return index.Key{Host: l.Host, Episode: l.Episode} }

func (l *line) row() index.Row {
	return index.Row{ReceivedAt: l.At, Host: l.Host, Episode: l.Episode, Digest: l.Digest, Size: int64(len(l.body)), Commit: l.Commit}
}

func (l *line) encode() ([]byte, error) {
	head, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return slices.Concat(head, []byte("\n"), l.body), nil
}

func parseLine(b []byte) (*line, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	l := &line{body: body}
	if err := json.Unmarshal(head, l); err != nil || !ok {
		return nil, fmt.Errorf("record of the journal is damaged: %w", err)
	}
	return l, nil
}

// journal is the open journal.
type journal struct {
	s    *Store
	w    *wal
	wake chan struct{}

	settling sync.Mutex

	mu      sync.Mutex
	waiting map[index.Key]*line
	order   []*line
	stuck   bool // the last settling failed
}

func (s *Store) newJournal() *journal {
	w := &wal{fs: s.o.FS, dir: filepath.Join(s.o.DataDir, journalDir), size: segment}
	if s.o.Segment > 0 {
		w.size = s.o.Segment
	}
	return &journal{s: s, w: w, wake: make(chan struct{}, 1), waiting: map[index.Key]*line{}}
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

// add makes an upload durable; errJournalFull tells that there is no room. The
// caller has the key's lock.
func (j *journal) add(u Upload, body []byte) (index.Row, error) {
	// While nothing can be settled nothing more is taken.
	j.mu.Lock()
	stuck := j.stuck
	j.mu.Unlock()
	if stuck || j.w.broken.Load() {
		if err := j.settle(false); err != nil {
			return index.Row{}, err
		}
	}
	l := &line{At: j.s.o.Now().UTC(), Host: u.Host, Episode: u.Episode, Digest: u.Digest, Commit: u.Commit, body: body}
	b, err := l.encode()
	if err == nil {
		l.file, err = j.w.append(b)
	}
	if err != nil {
		return index.Row{}, fmt.Errorf("journal upload: %w", err)
	}
	j.mu.Lock()
	j.waiting[l.key()] = l
	j.order = append(j.order, l)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return l.row(), nil
}

// settle gives all that waits its file and its row. idle tells that nothing more
// is expected soon.
func (j *journal) settle(idle bool) (err error) {
	j.settling.Lock()
	defer j.settling.Unlock()
	j.mu.Lock()
	lines := slices.Clone(j.order)
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.stuck = err != nil
	}()
	if err := j.s.settleLines(lines, false); err != nil {
		return err
	}
	var n [2]int
	j.mu.Lock()
	for _, l := range lines {
		delete(j.waiting, l.key())
		n[l.file]++
	}
	j.order = slices.Clone(j.order[len(lines):])
	j.mu.Unlock()
	return j.w.settled(n, idle)
}

// recoverJournal settles what a crash left in the journal. Rows that are there
// say that their file is too.
func (s *Store) recoverJournal() error {
	lines, want := []*line{}, map[index.Key]bool{}
	from := s.o.Now()
	for i := range 2 {
		b, err := disk.ReadFile(s.o.FS, s.journal.w.path(i), 1<<30)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open store: %w", err)
		}
		for _, p := range payloads(b) {
			l, err := parseLine(p)
			if err != nil {
				return fmt.Errorf("open store: %w", err)
			}
			if l.At.Before(from) {
				from = l.At
			}
			lines, want[l.key()] = append(lines, l), true
		}
	}
	if len(lines) > 0 {
		// A row is written after its record; the day is for a clock that was set back.
		found, err := s.o.Index.Find(from.Add(-24*time.Hour), want)
		if err != nil {
			return fmt.Errorf("open store: %w", err)
		}
		lines = slices.DeleteFunc(lines, func(l *line) bool {
			done := found[l.key()]
			found[l.key()] = true // a second record of it was never answered
			return done
		})
		if err := s.settleLines(lines, true); err != nil {
			return fmt.Errorf("open store: %w", err)
		}
		s.o.Log.Info("journal settled", "count", len(lines))
	}
	if err := s.journal.w.removeFiles(); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
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
