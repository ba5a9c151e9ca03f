// Package store stores tarballs and appends their rows to the index, so that an
// acknowledged episode is durable.
//
// An upload is written to staged/ and hashed, then linked to
// episodes/<host>/<id>.tar.zst, which fails if that name exists, and its row is written. One
// flush of the disk makes the content, both names and the row durable, for all uploads that
// wait at the same time. Last the staged name is removed. An index elsewhere gets its rows
// after the flush.
//
// After a crash, the rows at the end of the index that still have their staged name may not be
// flushed: if a tarball of them is missing or has another digest, its row is cut off, with
// those after it. Then a staged name without its tarball is an incomplete upload, which is
// removed. With both its tarball and its row it is complete. With its tarball only, start takes
// the content again if it matches its digest. Nothing is ever overwritten, and a refused upload
// leaves no file. The file system must not lose the first of two names and keep the second
// one at a power cut, or lose both and keep a row that was written later.
//
// Whether an episode is stored depends on its file alone, whose digest is an attribute or
// is computed, and never on the index.
//
//storage:adapter
package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// The store's names in the data folder.
const (
	EpisodesDir = "episodes"
	StagedDir   = "staged"
	IDFile      = "store_id"
)

// The permissions of files and folders: the owner writes, the group may read.
const (
	dirPerm  = 0o750
	filePerm = 0o640
)

// attr is a tarball's attribute: the bytes of its digest, then of its commit.
const attr = "cis490.sha256"

// Index is the log for the rows.
type Index interface {
	Append([]receiver.Entry) error
	Since(time.Time) iter.Seq2[receiver.Entry, error]
}

// Shared is an Index that may be on the file system of the tarballs.
type Shared interface {
	Index
	// Shares reports whether a flush of the file system of a folder covers the index.
	Shares(dir string) (bool, error)
	// AppendWith is Append for rows that flush makes durable. Until then nothing that reads the
	// index in this process sees them. After an error of flush they are cut off, at the latest
	// when Healthy returns nil.
	AppendWith(rows []receiver.Entry, flush func() error) error
	Healthy() error
	// Before yields the rows, newest first.
	Before(receiver.Query) iter.Seq2[receiver.Found[receiver.Entry], error]
	// Cut removes a row that Before found, and those after it, durably.
	Cut(receiver.Found[receiver.Entry]) error
}

// Options describe a store.
type Options struct {
	FS      disk.FS
	DataDir string
	Index   Index
	Reserve int64 // bytes that stay free
	Now     func() time.Time
	Log     *slog.Logger
}

// Store is an open store. Only one process may open it at a time; the caller ensures that
// before it opens the index. Its methods may be called from many goroutines.
type Store struct {
	o       Options
	id      string
	keys    Locks
	commits groupCommit

	archiving sync.Mutex

	mu      sync.Mutex
	pending map[receiver.Key]stagedUpload // uploads that failed between name and row

	reserved atomic.Int64 // bytes that uploads in progress have not written yet
	busy     busy
	buffers  buffers
}

// Open opens the store, makes its folders, and recovers from a crash.
func Open(o Options) (_ *Store, err error) {
	s := &Store{o: o, pending: map[receiver.Key]stagedUpload{}, commits: groupCommit{index: o.Index}}
	for _, d := range []string{EpisodesDir, StagedDir, ArchivedDir} {
		if err := disk.MkdirAll(o.FS, filepath.Join(o.DataDir, d), dirPerm); err != nil {
			return nil, fault.Fix(fmt.Errorf("open store: %w", err),
				"ls -ld "+o.DataDir+"   # must be a folder that this service's user may write")
		}
	}
	// A killed start may have made them without making them durable.
	if err := o.FS.SyncDir(o.DataDir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.loadID(); err != nil {
		return nil, err
	}
	if s.commits.disk, err = o.FS.OpenFlush(o.DataDir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if x, ok := o.Index.(Shared); ok {
		shares, err := x.Shares(o.DataDir)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open store: %w", err), s.Close())
		}
		if shares {
			s.commits.shared = x
		}
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.Close())
	}
	return s, nil
}

// Close closes the store. No call may be in progress.
func (s *Store) Close() error { return s.commits.disk.Close() }

// ID identifies this store; a restored one has another. It is made at the first start.
func (s *Store) ID() string { return s.id }

// Lookup returns the stored entry of an episode. It first completes an upload that failed
// before; if it cannot, it returns the error.
func (s *Store) Lookup(h ident.Host, id ident.EpisodeID) (receiver.Entry, bool, error) {
	k := receiver.Key{Host: h, Episode: id}
	defer s.keys.Lock(k)()
	return s.lookupLocked(k)
}

// lookupLocked is Lookup for a caller that has the key's lock.
func (s *Store) lookupLocked(k receiver.Key) (r receiver.Entry, found bool, err error) {
	if r, found, err = s.lookupTarball(k); found || err != nil {
		return r, found, err
	}
	if r, found, err = Archived(s.o.FS, s.o.DataDir, k); err != nil {
		err = fmt.Errorf("look up episode: %w", err)
	}
	return r, found, err
}

// lookupTarball is lookupLocked without archived episodes.
func (s *Store) lookupTarball(k receiver.Key) (r receiver.Entry, found bool, err error) {
	//off:04_IndexOwnedByRoot
	if it, ok := s.stagedOf(k); ok {
		if err := s.finish(it); err != nil {
			return r, false, err
		}
	}
	path := s.path(k)
	fi, err := s.o.FS.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = fault.Fix(fmt.Errorf("%s is not a regular file", path), "ls -ld "+path+"   # move it away")
	}
	if err != nil {
		return r, false, fmt.Errorf("look up episode: %w", err)
	}
	d, err := s.digest(path)
	if err != nil {
		return r, false, fmt.Errorf("look up episode: %w", err)
	}
	r = receiver.Entry{ReceivedAt: fi.ModTime().UTC(), Host: k.Host, Episode: k.Episode, Digest: d, Size: fi.Size(), Commit: s.commit(path)}
	return r, true, nil
}

// appendEntry appends one row and returns it with the time that it got.
func (s *Store) appendEntry(e receiver.Entry) (receiver.Entry, error) {
	rows := []receiver.Entry{e}
	err := s.o.Index.Append(rows)
	return rows[0], err
}

func (s *Store) hostDir(h ident.Host) string {
	return filepath.Join(s.o.DataDir, EpisodesDir, string(h))
}

func (s *Store) path(k receiver.Key) string {
	return filepath.Join(s.hostDir(k.Host), string(k.Episode)+wire.TarballSuffix)
}

func (s *Store) staged(name string) string { return filepath.Join(s.o.DataDir, StagedDir, name) }

func (s *Store) loadID() error {
	path := filepath.Join(s.o.DataDir, IDFile)
	id, err := readID(s.o.FS, s.o.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		raw := make([]byte, 16)
		_, _ = rand.Read(raw) // never fails
		id = hex.EncodeToString(raw)
		err = SetID(s.o.FS, s.o.DataDir, id)
	}
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if s.id = id; s.id == "" {
		return fault.Fix(fmt.Errorf("open store: %s is empty", path), "rm "+path+"   # a new one is made, and hosts compare what they shipped")
	}
	return nil
}
