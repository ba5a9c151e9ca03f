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

// maxNames bounds the names read from episodes/: more than any host ever queues, few enough
// to read within seconds.
const maxNames = 100_000

// Done reports whether an episode's directory is complete and not shipped or quarantined. A
// symlink does not count, because its target is not the recorder's.
func (s *Spool) Done(id ident.EpisodeID) bool { return s.whole(id) == nil && !s.settled(id) }

// whole returns fs.ErrNotExist if an episode's directory is missing or incomplete, and
// another error if that is unknown.
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

// settled reports whether an episode was shipped or quarantined, so that its folder in
// episodes/ is a stuck one.
func (s *Spool) settled(id ident.EpisodeID) bool {
	return disk.Exists(s.FS, s.inShipped(id)) || disk.Exists(s.FS, s.reasonOf(id))
}

// Found is the result of Scan, oldest first.
type Found struct {
	Whole     []ident.EpisodeID
	Recording int // incomplete
	// Stuck were shipped or quarantined, but their folders could not be moved or removed.
	// RetryMove tries again.
	Stuck []ident.EpisodeID
	// More means that the folder has more names than Scan reads.
	More bool
}

// Scan finds the episodes for which known returns false. It reads no directory of known
// episodes, and ignores names that are not episode ids.
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

// RetryMove tries again to move a stuck folder.
func (s *Spool) RetryMove(id ident.EpisodeID) error {
	if disk.Exists(s.FS, s.reasonOf(id)) {
		return s.moveAside(id)
	}
	return s.moveOut(id)
}

// Packed returns the ids of the tarballs in the outbox.
func (s *Spool) Packed() ([]ident.EpisodeID, error) { return s.ids(s.outbox(), wire.TarballSuffix) }

// Waits reports whether an episode waits to be shipped, in a directory or a tarball.
func (s *Spool) Waits(id ident.EpisodeID) bool {
	return s.Done(id) || disk.Exists(s.FS, s.inOutbox(id, wire.TarballSuffix))
}

// Item describes a waiting episode for the queue.
type Item struct {
	Commit ident.Commit // "" if there is none or meta.json is not readable
	Bytes  int64        // on disk, of the directory or else of the tarball
}

// Describe returns the commit and size of a waiting episode without packing it. The
// directory's values only order the queue.
func (s *Spool) Describe(id ident.EpisodeID) Item {
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

// ids returns the episode ids in a folder whose names end in suffix.
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
