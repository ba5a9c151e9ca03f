package store

import (
	"crypto/rand"
	"encoding/hex"
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

// intent is a staged upload; its name carries all that the row needs, so that a
// restart needs nothing else to finish it.
type intent struct {
	name    string
	row     receiver.Entry
	epoch   int  // of the commits, from before it was written
	durable bool // so that only the row is missing
}

func newIntent(u receiver.Upload) intent {
	salt := make([]byte, 4)
	_, _ = rand.Read(salt) // never fails: crypto/rand.Read's word
	return intent{
		name: strings.Join([]string{string(u.Host), string(u.Episode), string(u.Digest), string(u.Commit), hex.EncodeToString(salt)}, "."),
		row:  receiver.Entry{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Size: u.Size, Commit: u.Commit},
	}
}

// parseIntent reads a staged name back; ok is false for a file of another hand.
func parseIntent(name string) (it intent, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 5 {
		return it, false
	}
	h, err1 := ident.ParseHost(parts[0])
	id, err2 := ident.ParseEpisodeID(parts[1])
	d, err3 := ident.ParseDigest(parts[2])
	c, err4 := ident.ParseCommit(parts[3])
	if errors.Join(err1, err2, err3, err4) != nil {
		return it, false
	}
	return intent{name: name, row: receiver.Entry{Host: h, Episode: id, Digest: d, Commit: c}}, true
}

// publish brings a linked upload to its end: durable, row durable, staged name
// gone.
func (s *Store) publish(it intent) (receiver.Entry, error) {
	switch err := s.commits.add(&it); {
	case err != nil && it.durable:
		// It stays as it is, as its row may have reached the disk.
		s.setIntent(it)
		return it.row, err
	case err != nil:
		return it.row, errors.Join(err, s.withdraw(it))
	}
	s.done(it)
	return it.row, nil
}

// settle ends what a failure left.
func (s *Store) settle(it intent) (err error) {
	if !it.durable {
		return s.withdraw(it)
	}
	it.row.Repaired = true
	if it.row, err = s.appendEntry(it.row); err != nil {
		return fmt.Errorf("index episode: %w", err)
	}
	s.done(it)
	return nil
}

// withdraw removes what may not be durable: to flush it again and believe that
// would be wrong.
func (s *Store) withdraw(it intent) error {
	for _, path := range []string{s.path(it.row.Key()), s.staged(it.name)} { // the staged name, as the proof, last
		if err := s.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.setIntent(it)
			return fmt.Errorf("remove episode that is not durable: %w", err)
		}
	}
	s.dropIntent(it.row.Key())
	return nil
}

// done removes the staged name of what has its row.
func (s *Store) done(it intent) {
	s.dropIntent(it.row.Key())
	if err := s.discard(it.name); err != nil {
		// The episode is safe; the next start finds the row and removes the name.
		s.o.Log.Warn("staged name stays", "host", it.row.Host, "episode", it.row.Episode, "err", err)
	}
}

// recover looks through the staged names that a crash left: half uploads go,
// those without a row are taken once more.
func (s *Store) recover() error {
	entries, err := s.o.FS.ReadDir(filepath.Join(s.o.DataDir, StagedDir))
	if err != nil {
		return err
	}
	owed, want := []intent{}, map[receiver.Key]bool{}
	from := s.o.Now()
	for _, e := range entries {
		it, ok := parseIntent(e.Name())
		if !ok && !strings.HasSuffix(e.Name(), disk.Partial) {
			s.o.Log.Warn("file of another hand among the staged uploads", "path", s.staged(e.Name()))
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
	// A row is written after its file; the day is for a clock that was set back.
	found, err := s.findRows(from.Add(-24*time.Hour), want)
	if err != nil {
		return err
	}
	for _, it := range owed {
		if !found[it.row.Key()] {
			if err := s.again(it); err != nil {
				return err
			}
		}
		if err := s.discard(it.name); err != nil {
			return err
		}
	}
	return nil
}

// again takes an upload once more from its staged name. It was never acknowledged,
// so one that is damaged may go: its host sends it again.
func (s *Store) again(old intent) error {
	k := old.row.Key()
	f, err := s.o.FS.OpenFile(s.staged(old.name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if err := s.o.FS.Remove(s.path(k)); err != nil {
		return err
	}
	it := newIntent(receiver.Upload{Host: k.Host, Episode: k.Episode, Digest: old.row.Digest, Size: old.row.Size, Commit: old.row.Commit})
	it.row.Repaired = true
	_, _, err = s.take(it, f, func() error { return nil })
	if errors.Is(err, receiver.ErrDigest) {
		s.o.Log.Warn("half an upload removed", "host", k.Host, "episode", k.Episode, "err", err)
		return nil
	}
	if err == nil {
		s.o.Log.Info("row repaired", "host", k.Host, "episode", k.Episode)
	}
	return err
}
