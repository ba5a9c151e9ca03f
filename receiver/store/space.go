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

// reservation is the space that an upload in progress has reserved and not used yet, so
// that parallel uploads do not reserve the same space.
type reservation struct {
	s    *Store
	left int64
}

func (s *Store) reserve(size int64) (*reservation, error) {
	// Reserve first, and release if there is no room: two parallel uploads may then both be
	// refused, but not both accepted.
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

// reservedBody is a body that uses its reservation as it is read.
type reservedBody struct {
	io.Reader
	p *reservation
}

func (r *reservedBody) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.p.use(int64(n))
	return n, err
}

// Room returns receiver.ErrFull if size more bytes would use the disk's reserve, with
// uploads in progress counted as complete.
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

// probeFile is written and removed to test the disk. Its suffix makes a start remove it.
const probeFile = "probe" + disk.Partial

// probeDir is a folder that is made and removed as a test. No host has its name.
const probeDir = ".probe"

// Writable writes test files to check that the disk accepts writes, and that staged files can be
// linked. After a failed upload the test is thorough: it takes every step of an upload,
// except writing the row.
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
	case errors.Is(err, os.ErrExist): // of an interrupted test
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

// busy records since when calls wait for the disk.
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
