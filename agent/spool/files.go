package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// ErrStuck means that a recorder's folder could not be moved or removed, for example
// because its owner removed our access. Everything else was done: the episode is shipped or
// quarantined.
var ErrStuck = errors.New("the recorder's folder cannot be moved")

// move renames a file. It also succeeds if an earlier call did so.
func (s *Spool) move(from, to string) error {
	err := s.FS.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) && !disk.Exists(s.FS, from) {
		return nil
	}
	if err != nil {
		return err
	}
	// After a power cut, both names may link to one file; rename(2) then keeps both.
	a, err := s.FS.Lstat(from)
	if err != nil {
		return nil
	}
	if b, err := s.FS.Lstat(to); err == nil && !a.IsDir() && disk.SameFile(a, b) {
		return s.remove(from)
	}
	return nil
}

// remove removes a file, if it exists.
func (s *Spool) remove(name string) error {
	if err := s.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// moveOut moves a shipped episode's folder to shipped/, which the recorder's user cannot
// write, and removes it there.
func (s *Spool) moveOut(id ident.EpisodeID) error {
	gone := s.removing(id)
	if disk.Exists(s.FS, s.inShipped(id)) && disk.Exists(s.FS, s.episode(id)) {
		err := s.removeTree(gone) // left by an earlier attempt
		if err == nil {
			err = s.move(s.episode(id), gone)
		}
		if err != nil {
			return fmt.Errorf("move %s: %w: %w", s.episode(id), ErrStuck, err)
		}
		if err := errors.Join(s.FS.SyncDir(s.shipped()), s.FS.SyncDir(s.episodes())); err != nil {
			return fmt.Errorf("move %s: %w: %w", s.episode(id), ErrStuck, err)
		}
	}
	return s.removeLeft(id)
}

// removeLeft removes a shipped episode's folder that moveOut moved. It remembers the
// episode if that fails.
func (s *Spool) removeLeft(id ident.EpisodeID) error {
	err := s.removeTree(s.removing(id))
	s.left.set(id, err != nil)
	if err != nil {
		return fmt.Errorf("remove %s: %w: %w", s.removing(id), ErrStuck, err)
	}
	return nil
}

// left holds the episodes whose folder in shipped/ could not be removed yet, in memory, so
// that finding them needs no listing of shipped/.
type left struct {
	mu  sync.Mutex
	all map[ident.EpisodeID]bool
}

func (l *left) set(id ident.EpisodeID, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !is {
		delete(l.all, id)
		return
	}
	if l.all == nil {
		l.all = map[ident.EpisodeID]bool{}
	}
	l.all[id] = true
}

func (l *left) ids() []ident.EpisodeID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.all))
}

// Bounds of one removal: more than any packed episode has. The next call removes the rest
// of a larger tree.
const (
	removeAtOnce = 20_000 // names
	removePart   = 1_000  // names listed at once
	removeDepth  = 32
)

// removeTree removes a directory and its content without following links. The recorder's
// user cannot reach the directory's name, but may still write inside it.
func (s *Spool) removeTree(dir string) error {
	left := removeAtOnce
	return s.removeSome(dir, removeDepth, &left)
}

func (s *Spool) removeSome(name string, depth int, left *int) error {
	fi, err := s.FS.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !fi.IsDir() {
		return errors.Join(err, s.remove(name))
	}
	for {
		entries, err := disk.ReadDirN(s.FS, name, removePart)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return s.remove(name)
		}
		for _, e := range entries {
			*left--
			switch {
			case *left < 0:
				return fmt.Errorf("%s holds more than %d names, or is still being filled", name, removeAtOnce)
			case depth == 0:
				return fmt.Errorf("%s is nested more than %d deep", name, removeDepth)
			case e.IsDir():
				err = s.removeSome(filepath.Join(name, e.Name()), depth-1, left)
			default:
				err = s.remove(filepath.Join(name, e.Name()))
			}
			if err != nil {
				return err
			}
		}
	}
}

// errForeign means that another user than the shipper's may have written a file.
var errForeign = errors.New("not written by the shipper")

// readOwn reads a small file, but only if the user that owns quarantine/ owns it too. The
// caller checks that the content fits the name, because in the recorder's folder it may be
// a file written for another purpose.
func (s *Spool) readOwn(name string) (b []byte, err error) {
	f, err := s.FS.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !s.isOwn(fi) {
		return nil, fmt.Errorf("read %s: %w", name, errForeign)
	}
	b, err = io.ReadAll(io.LimitReader(f, maxSidecar+1))
	if len(b) > maxSidecar {
		err = fmt.Errorf("read %s: larger than %d bytes", name, maxSidecar)
	}
	return b, err
}

// isOwn reports whether the owner of quarantine/ owns a folder or regular file.
func (s *Spool) isOwn(fi fs.FileInfo) bool {
	at, err := s.FS.Lstat(s.quarantine())
	if err != nil {
		return false
	}
	mine, _ := disk.Owner(at)
	uid, _ := disk.Owner(fi)
	return uid == mine && (fi.IsDir() || fi.Mode().IsRegular())
}
