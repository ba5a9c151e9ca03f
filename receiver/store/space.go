package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver"
)

// reservation is room that an upload in progress was given and has not used yet, so
// that uploads at the same time are not promised the same room.
type reservation struct {
	s    *Store
	left int64
}

func (s *Store) reserve(size int64) (*reservation, error) {
	// Promised first and taken back if refused: two that come together are
	// rather both refused than both let in.
	p := &reservation{s, size}
	s.reserved.Add(size)
	if err := s.Room(0); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (p *reservation) use(n int64) {
	n = min(n, p.left)
	p.left -= n
	p.s.reserved.Add(-n)
}

func (p *reservation) end() { p.use(p.left) }

// reservedBody is a body that uses up its reservation as it is read.
type reservedBody struct {
	io.Reader
	p *reservation
}

func (r *reservedBody) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.p.use(int64(n))
	return n, err
}

// Room tells whether size more bytes would leave the reserve free, uploads in
// progress counted as if done; receiver.ErrFull if not.
func (s *Store) Room(size int64) error {
	space, ok := s.o.FS.(disk.Space)
	if !ok {
		return nil
	}
	free, err := space.Free(s.o.DataDir)
	if err != nil {
		return err
	}
	//off:12_ReceiverDiskFull
	if left := free - s.reserved.Load() - size; left < s.o.Reserve {
		return fmt.Errorf("%w: %d bytes would be left of a reserve of %d", receiver.ErrFull, left, s.o.Reserve)
	}
	return nil
}

// probeFile is written and removed to learn whether the disk takes writes. Its
// ending makes a start sweep it.
const probeFile = "probe" + disk.Partial

// probeDir is a folder that is made and removed for the same; no host has its name.
const probeDir = ".probe"

// Writable tells whether the store's disk takes writes and what is staged can get
// its name, by doing so. A thorough trial, for when an upload failed, takes every step
// of an upload but its row.
func (s *Store) Writable(thorough bool) error {
	path, name := s.staged(probeFile), filepath.Join(s.o.DataDir, EpisodesDir, probeFile)
	err := disk.WriteSync(s.o.FS, path, filePerm, func(w io.Writer) error {
		_, err := w.Write([]byte("probe\n"))
		if f, ok := w.(disk.File); ok && thorough && err == nil {
			err = s.setAttrs(f, ident.Digest(strings.Repeat("0", 2*sha256.Size)), "")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write to the store: %w", err)
	}
	err = s.o.FS.Link(path, name)
	switch {
	case errors.Is(err, unix.EXDEV):
		err = fault.Fix(err, "findmnt -T "+filepath.Dir(name)+"   # a disk of its own must be mounted at "+s.o.DataDir)
	case errors.Is(err, os.ErrExist): // of a look that was cut off
		err = nil
	}
	if thorough && err == nil {
		err = s.rehearse()
	}
	for _, path := range []string{name, path} {
		if e := s.o.FS.Remove(path); err == nil && !errors.Is(e, os.ErrNotExist) {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("write to the store: %w", err)
	}
	return nil
}

// rehearse makes a folder, as for a host's first upload, and flushes the disk.
func (s *Store) rehearse() error {
	dir := filepath.Join(s.o.DataDir, EpisodesDir, probeDir)
	if err := s.o.FS.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.o.FS.Remove(dir); err != nil {
		return err
	}
	return s.commits.try()
}

// busy knows since when the oldest call that waits for the disk has waited.
type busy struct {
	mu    sync.Mutex
	next  uint64
	since map[uint64]time.Time
}

func (b *busy) begin(now time.Time) (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since == nil {
		b.since = map[uint64]time.Time{}
	}
	b.next++
	id := b.next
	b.since[id] = now
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.since, id)
	}
}

// Waiting returns for how long the oldest call has waited for the disk.
func (s *Store) Waiting(now time.Time) time.Duration {
	s.busy.mu.Lock()
	defer s.busy.mu.Unlock()
	var longest time.Duration
	for _, t := range s.busy.since {
		longest = max(longest, now.Sub(t))
	}
	return longest
}
