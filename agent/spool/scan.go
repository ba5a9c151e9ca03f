package spool

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// maxNames bounds how many names of episodes/ are looked at, so that a million of
// them cost no minutes. It is beyond all that a host has ever queued.
const maxNames = 100_000

// Done tells whether an episode's directory is there, whole, and waits to be
// shipped. A symlink to one does not count: what it leads to is not ours to read.
func (s *Spool) Done(id ident.EpisodeID) bool { return s.whole(id) == nil && !s.settled(id) }

// whole returns fs.ErrNotExist where an episode's directory is not there, or not
// whole, and another error where that cannot be told.
func (s *Spool) whole(id ident.EpisodeID) error {
	dir, err := s.FS.Lstat(s.episode(id))
	if err != nil {
		return err
	}
	if !dir.IsDir() {
		return fs.ErrNotExist
	}
	marker, err := s.FS.Lstat(filepath.Join(s.episode(id), episode.DoneMarker))
	if err != nil {
		return err
	}
	if !marker.Mode().IsRegular() {
		return fs.ErrNotExist
	}
	return nil
}

// settled tells whether an episode was shipped or set aside, so that a folder of its
// name in episodes/ is one that could not be moved out of the way.
func (s *Spool) settled(id ident.EpisodeID) bool {
	return disk.Exists(s.FS, s.inShipped(id)) || disk.Exists(s.FS, s.reasonOf(id))
}

// Found is what Scan found in episodes/, by age.
type Found struct {
	Whole     []ident.EpisodeID
	Recording int // not whole yet
	// Stuck were shipped or set aside, and their folders could not be moved or
	// removed; Settle tries again.
	Stuck []ident.EpisodeID
	// More reports that the folder has more names than Scan reads.
	More bool
}

// Scan looks for episodes that known does not know yet. It looks into no directory
// that is known, and ignores names that are not episode ids.
func (s *Spool) Scan(known func(ident.EpisodeID) bool) (Found, error) {
	var f Found
	entries, err := disk.ReadDirN(s.FS, s.episodes(), maxNames+1)
	if err != nil {
		return f, fmt.Errorf("scan episodes: %w", err)
	}
	f.More = len(entries) > maxNames
	for _, e := range entries {
		id, err := ident.ParseEpisodeID(e.Name())
		if err != nil || known(id) {
			continue
		}
		switch {
		case s.settled(id):
			f.Stuck = append(f.Stuck, id)
		case !e.IsDir():
		case s.whole(id) == nil:
			f.Whole = append(f.Whole, id)
		default:
			f.Recording++
		}
	}
	for _, id := range s.left.ids() {
		if !known(id) {
			f.Stuck = append(f.Stuck, id)
		}
	}
	return f, nil
}

// Settle tries again to move a stuck folder out of the way.
func (s *Spool) Settle(id ident.EpisodeID) error {
	if disk.Exists(s.FS, s.reasonOf(id)) {
		return s.moveAside(id)
	}
	return s.moveOut(id)
}

// Packed returns the ids of the tarballs in the outbox.
func (s *Spool) Packed() ([]ident.EpisodeID, error) { return s.ids(s.outbox(), wire.TarballSuffix) }

// Waits tells whether an episode waits to be shipped, as a directory or as a
// tarball.
func (s *Spool) Waits(id ident.EpisodeID) bool {
	return s.Done(id) || disk.Exists(s.FS, s.inOutbox(id, wire.TarballSuffix))
}

// Item is what the queue needs to know of an episode that waits.
type Item struct {
	Commit ident.Commit // "" where none was stamped or it cannot be read
	Bytes  int64        // on disk, of the directory or else of the tarball
}

// Look returns what is known of a waiting episode without packing it. What its
// directory says is for the order of the queue only.
func (s *Spool) Look(id ident.EpisodeID) Item {
	t, err := s.readSidecar(id)
	if err == nil && s.whole(id) != nil {
		return Item{t.Commit, t.Size}
	}
	it := Item{t.Commit, episode.Bytes(episode.Source{FS: s.FS, Dir: s.episode(id), ID: id})}
	if err != nil {
		if m, err := episode.ReadMeta(s.FS, s.episode(id)); err == nil {
			it.Commit = m.Code.Commit
		}
	}
	return it
}

// ids returns the ids of the names in a folder that end in suffix.
func (s *Spool) ids(dir, suffix string) ([]ident.EpisodeID, error) {
	entries, err := s.FS.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var out []ident.EpisodeID
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if id, err := ident.ParseEpisodeID(name); ok && err == nil {
			out = append(out, id)
		}
	}
	return out, nil
}
