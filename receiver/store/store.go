// Package store keeps the tarballs and gets each one's row into the index, such
// that a success answer means durable (spec §3).
//
// An upload is staged under staged/ while it is hashed, then linked to
// episodes/<host>/<id>.tar.zst, which fails if that name exists. One flush makes
// content and both names durable, for all uploads that wait at the same time;
// then comes the row, and last the staged name goes. So after a crash a staged
// name tells all: alone it is half an upload and is swept; beside its tarball,
// where the row is there it is done, and where not, nothing is believed: start
// takes the content once more, if it is what its digest says. Nothing is ever
// overwritten, and a refused upload leaves no file behind. Of two names, the file
// system must not lose the one made first and keep the other at a power cut.
//
// Whether an episode is stored is answered from its file alone (the digest is
// an attribute of it, else it is hashed again), never from history.
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

// Rights of what the store makes: the owner writes, the group may read.
const (
	dirPerm  = 0o750
	filePerm = 0o640
)

// attr is the attribute of a tarball: the bytes of its digest, then of its commit.
const attr = "cis490.sha256"

// Index is the log that the rows go to.
type Index interface {
	Append([]receiver.Entry) error
	Since(time.Time) iter.Seq2[receiver.Entry, error]
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

// Store is an open store. One process at a time may have it, which is the
// caller's to see to, before the index is opened. Its methods may be called from
// many goroutines.
type Store struct {
	o       Options
	id      string
	keys    keyLocks
	commits commits

	archiving sync.Mutex

	mu      sync.Mutex
	pending map[receiver.Key]intent // what a failure left between name and row

	promised atomic.Int64 // bytes of uploads in progress that are not written yet
	busy     busy
	buffers  buffers
}

// Open opens the store, making its folders, and settles what a crash left.
func Open(o Options) (_ *Store, err error) {
	s := &Store{o: o, pending: map[receiver.Key]intent{}, commits: commits{index: o.Index}}
	for _, d := range []string{EpisodesDir, StagedDir, ArchivedDir} {
		if err := disk.MkdirAll(o.FS, filepath.Join(o.DataDir, d), dirPerm); err != nil {
			return nil, fault.Fix(fmt.Errorf("open store: %w", err),
				"ls -ld "+o.DataDir+"   # must be a folder that this service's user may write")
		}
	}
	// They may be there from a start that was killed before it made them durable.
	if err := o.FS.SyncDir(o.DataDir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.loadID(); err != nil {
		return nil, err
	}
	if s.commits.disk, err = o.FS.OpenFlush(o.DataDir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.Close())
	}
	return s, nil
}

// Close closes the store; no call may be under way.
func (s *Store) Close() error { return s.commits.disk.Close() }

// ID tells this store from one that was restored; it is made at first start.
func (s *Store) ID() string { return s.id }

// Lookup returns what is stored of an episode. What a failure left is settled
// first; while it cannot be, that is the error.
func (s *Store) Lookup(h ident.Host, id ident.EpisodeID) (receiver.Entry, bool, error) {
	k := receiver.Key{Host: h, Episode: id}
	defer s.keys.lock(k)()
	return s.lookup(k)
}

// lookup is Lookup for a caller that has the key's lock.
func (s *Store) lookup(k receiver.Key) (r receiver.Entry, found bool, err error) {
	if r, found, err = s.look(k); found || err != nil {
		return r, found, err
	}
	if r, found, err = Archived(s.o.FS, s.o.DataDir, k); err != nil {
		err = fmt.Errorf("look up episode: %w", err)
	}
	return r, found, err
}

// look is lookup without what was moved out.
func (s *Store) look(k receiver.Key) (r receiver.Entry, found bool, err error) {
	if it, ok := s.intentOf(k); ok {
		if err := s.settle(it); err != nil {
			return r, false, err
		}
	}
	path := s.path(k)
	fi, err := s.o.FS.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = fault.Fix(fmt.Errorf("%s is no regular file", path), "ls -ld "+path+"   # move it away")
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

// Settle tries again to settle what failures left between a tarball's name and
// its row, and returns what keeps it from that.
func (s *Store) Settle() error {
	s.mu.Lock()
	keys := make([]receiver.Key, 0, len(s.pending))
	for k := range s.pending {
		keys = append(keys, k)
	}
	s.mu.Unlock()
	var bad []error
	for _, k := range keys {
		if _, _, err := s.Lookup(k.Host, k.Episode); err != nil {
			bad = append(bad, err)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("%d episodes wait for their index row or removal: %w", len(bad), bad[0])
}

// appendEntry appends one row and returns it with the time that it got.
func (s *Store) appendEntry(e receiver.Entry) (receiver.Entry, error) {
	rows := []receiver.Entry{e}
	err := s.o.Index.Append(rows)
	return rows[0], err
}

// findRows returns those of the wanted episodes that have a row received at a time or later.
func (s *Store) findRows(from time.Time, want map[receiver.Key]bool) (map[receiver.Key]bool, error) {
	found := map[receiver.Key]bool{}
	for r, err := range s.o.Index.Since(from) {
		if err != nil {
			return nil, err
		}
		if want[r.Key()] {
			found[r.Key()] = true
		}
	}
	return found, nil
}

func (s *Store) intentOf(k receiver.Key) (intent, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.pending[k]
	return it, ok
}

func (s *Store) setIntent(it intent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[it.row.Key()] = it
}

func (s *Store) dropIntent(k receiver.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, k)
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
		_, _ = rand.Read(raw) // never fails: crypto/rand.Read's word
		id = hex.EncodeToString(raw)
		err = disk.ReplaceBytes(s.o.FS, path, filePerm, []byte(id+"\n"))
	}
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if s.id = id; s.id == "" {
		return fault.Fix(fmt.Errorf("open store: %s is empty", path), "rm "+path+"   # a new one is made, and hosts compare what they shipped")
	}
	return nil
}
