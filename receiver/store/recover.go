package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
)

// recover handles the staged names that a crash left: it removes incomplete uploads, and
// takes those without a row again.
func (s *Store) recover() error {
	entries, err := s.o.FS.ReadDir(filepath.Join(s.o.DataDir, StagedDir))
	if err != nil {
		return err
	}
	// Before any staged name is removed, because only that shows which rows may be cut.
	if err := s.checkLast(unflushed(entries)); err != nil {
		return fmt.Errorf("check the last rows: %w", err)
	}
	owed, want := []stagedUpload{}, map[receiver.Key]bool{}
	from := s.o.Now()
	for _, e := range entries {
		it, ok := parseStaged(e.Name())
		if !ok && !strings.HasSuffix(e.Name(), disk.Partial) {
			s.o.Log.Warn("unknown file among the staged uploads", "path", s.staged(e.Name()))
			continue
		}
		staged, err := s.o.FS.Lstat(s.staged(e.Name()))
		if err != nil {
			return err
		}
		final, err := s.o.FS.Lstat(s.path(it.row.Key()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !ok || err != nil || !disk.SameFile(staged, final) {
			if err := s.discard(e.Name()); err != nil {
				return err
			}
			continue
		}
		it.row.Size = staged.Size()
		owed, want[it.row.Key()] = append(owed, it), true
		if staged.ModTime().Before(from) {
			from = staged.ModTime()
		}
	}
	if len(owed) == 0 {
		return nil
	}
	// A row is written after its file. The day allows for a clock that was set back.
	found, err := s.findRows(from.Add(-24*time.Hour), want)
	if err != nil {
		return err
	}
	for _, it := range owed {
		if !found[it.row.Key()] {
			if err := s.retry(it); err != nil {
				return err
			}
		}
		if err := s.discard(it.name); err != nil {
			return err
		}
	}
	return nil
}

// Unflushed returns a function that reports whether a row at the end of the index may not be
// durable, because it still has its staged name. All rows are durable that are before one of
// which it reports false. Nil: all are.
func Unflushed(fsys disk.FS, dataDir string) (func(receiver.Entry) bool, error) {
	entries, err := fsys.ReadDir(filepath.Join(dataDir, StagedDir))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return unflushed(entries), err
}

func unflushed(entries []fs.DirEntry) func(receiver.Entry) bool {
	type content struct {
		receiver.Key
		ident.Digest
	}
	staged := map[content]bool{}
	for _, e := range entries {
		if it, ok := parseStaged(e.Name()); ok {
			staged[content{it.row.Key(), it.row.Digest}] = true
		}
	}
	if len(staged) == 0 {
		return nil
	}
	return func(r receiver.Entry) bool { return !r.Archived && staged[content{r.Key(), r.Digest}] }
}

// checkLast cuts the first unflushed row off whose tarball a crash has taken, with those after
// it. None of them was acknowledged. The index was flushed when it was opened, so that the
// others are durable.
func (s *Store) checkLast(unflushed func(receiver.Entry) bool) error {
	if s.commits.shared == nil || unflushed == nil {
		return nil
	}
	var first receiver.Found[receiver.Entry]
	for found, err := range s.commits.shared.Before(receiver.Query{}) {
		if err != nil {
			return err
		}
		if !found.Match || !unflushed(found.Row) {
			break
		}
		whole, err := s.whole(found.Row)
		if err != nil {
			return err
		}
		if !whole {
			first = found
		}
	}
	if !first.Match {
		return nil
	}
	s.o.Log.Warn("rows of unfinished uploads removed", "host", first.Row.Host, "episode", first.Row.Episode)
	return s.commits.shared.Cut(first)
}

// whole reports whether a row's tarball is on the disk, by its content.
func (s *Store) whole(r receiver.Entry) (bool, error) {
	path := s.path(r.Key())
	fi, err := s.o.FS.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != r.Size {
		return false, err
	}
	f, err := s.o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	if err := errors.Join(disk.DropCache(f), f.Close()); err != nil { // after a failed flush it may hold more than the disk
		return false, err
	}
	d, err := s.hash(path)
	return d == r.Digest, err
}

// retry takes an upload again from its staged name. It was never acknowledged, so that a
// damaged one can be removed: its host sends it again.
func (s *Store) retry(old stagedUpload) error {
	k := old.row.Key()
	f, err := s.o.FS.OpenFile(s.staged(old.name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if err := s.o.FS.Remove(s.path(k)); err != nil {
		return err
	}
	it := newStaged(receiver.Upload{Host: k.Host, Episode: k.Episode, Digest: old.row.Digest, Size: old.row.Size, Commit: old.row.Commit})
	it.row.Repaired = true
	_, _, err = s.receive(it, f, func() error { return nil })
	if errors.Is(err, receiver.ErrDigest) {
		s.o.Log.Warn("half an upload removed", "host", k.Host, "episode", k.Episode, "err", err)
		return nil
	}
	if err == nil {
		s.o.Log.Info("row repaired", "host", k.Host, "episode", k.Episode)
	}
	return err
}

// Settle tries again to complete uploads that failed between the tarball's name and its
// row. It returns why some are not complete yet.
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

// finish completes an upload after a failure.
func (s *Store) finish(it stagedUpload) (err error) {
	if !it.durable {
		return s.rollback(it)
	}
	it.row.Repaired = true
	if it.row, err = s.appendEntry(it.row); err != nil {
		return fmt.Errorf("index episode: %w", err)
	}
	s.done(it)
	return nil
}

// rollback removes an upload that may not be durable. Flushing again would not prove that
// it is.
func (s *Store) rollback(it stagedUpload) error {
	err := s.o.FS.Remove(s.path(it.row.Key()))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil && s.commits.shared != nil {
		err = s.commits.shared.Healthy() // its row is cut off
	}
	if err == nil { // the staged name last
		err = s.discard(it.name)
	}
	if err != nil {
		s.setStaged(it)
		return fmt.Errorf("remove episode that is not durable: %w", err)
	}
	s.dropStaged(it.row.Key())
	return nil
}

// findRows returns those of the wanted episodes that have a row received at a time or
// later.
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
