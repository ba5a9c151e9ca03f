package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver/index"
)

// intent is a staged upload; its name carries all that the row needs, so that a
// restart needs nothing else to finish it.
type intent struct {
	name   string
	row    index.Row
	owned  bool // published: finish removes the staged name
	linked bool // the tarball's name was made by this process and no sync of it failed
	named  bool // and is durable
}

func newIntent(u Upload) intent {
	salt := make([]byte, 4)
	_, _ = rand.Read(salt) // never fails: crypto/rand.Read's word
	return intent{
		name: strings.Join([]string{string(u.Host), string(u.Episode), string(u.Digest), string(u.Commit), hex.EncodeToString(salt)}, "."),
		row:  index.Row{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Size: u.Size, Commit: u.Commit},
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
	return intent{name: name, owned: true, row: index.Row{Host: h, Episode: id, Digest: d, Commit: c}}, true
}

// finish brings a linked upload to its end: name durable, row durable, staged
// name gone. On an error the intent stays, for the next try or the next start.
func (s *Store) finish(it intent, repaired bool) (index.Row, error) {
	k := it.row.Key()
	if !it.linked {
		// A sync of the folder failed, or it is not known whether it was done.
		// To sync again and believe it would be wrong: the name is made anew.
		if err := s.o.FS.Remove(s.path(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return it.row, fmt.Errorf("publish episode again: %w", err)
		}
		if err := s.o.FS.Link(s.staged(it.name), s.path(k)); err != nil {
			return it.row, fmt.Errorf("publish episode again: %w", err)
		}
		it.linked = true
	}
	if !it.named {
		if err := s.syncDir(s.hostDir(k.Host)); err != nil {
			it.linked = false
			s.setIntent(it)
			return it.row, fmt.Errorf("make episode's name durable: %w", err)
		}
		it.named = true
		s.setIntent(it)
	}
	it.row.Repaired = repaired
	row, err := s.o.Index.Append(it.row)
	if err != nil {
		return it.row, fmt.Errorf("index episode: %w", err)
	}
	s.dropIntent(k)
	if err := s.discard(it.name); err != nil {
		// The episode is safe; the next start finds the row and removes the name.
		s.o.Log.Warn("staged name stays", "host", k.Host, "episode", k.Episode, "err", err)
	}
	return row, nil
}

// recover looks through the staged names that a crash left: half uploads go,
// published ones get the row that they may lack.
func (s *Store) recover() error {
	entries, err := s.o.FS.ReadDir(filepath.Join(s.o.DataDir, StagedDir))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	owed, want := []intent{}, map[index.Key]bool{}
	from := s.o.Now()
	for _, e := range entries {
		it, ok := parseIntent(e.Name())
		if !ok && !strings.HasSuffix(e.Name(), disk.Partial) {
			s.o.Log.Warn("file of another hand among the staged uploads", "path", s.staged(e.Name()))
			continue
		}
		staged, err := s.o.FS.Lstat(s.staged(e.Name()))
		if err != nil {
			return fmt.Errorf("open store: %w", err)
		}
		final, err := s.o.FS.Lstat(s.path(it.row.Key()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open store: %w", err)
		}
		if !ok || err != nil || !disk.SameFile(staged, final) {
			if err := s.discard(e.Name()); err != nil {
				return fmt.Errorf("open store: %w", err)
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
	found, err := s.o.Index.Find(from.Add(-24*time.Hour), want)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	for _, it := range owed {
		if found[it.row.Key()] {
			if err := s.discard(it.name); err != nil {
				return fmt.Errorf("open store: %w", err)
			}
			continue
		}
		s.setIntent(it)
		if _, err := s.finish(it, true); err != nil {
			s.o.Log.Error("row is still missing", "host", it.row.Host, "episode", it.row.Episode, "err", err)
			continue
		}
		s.o.Log.Info("row repaired", "host", it.row.Host, "episode", it.row.Episode)
	}
	return nil
}
