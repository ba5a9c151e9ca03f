package spool

import (
	"errors"
	"fmt"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Release lets a quarantined episode wait for shipping again. If that fails it stays
// set aside, for the same reason.
func (s *Spool) Release(id ident.EpisodeID) error {
	dir := s.inQuarantine(id)
	if !disk.Exists(s.FS, dir) {
		return nil
	}
	if err := s.adoptOne(id); err != nil {
		return fmt.Errorf("release %s: %w", id, err)
	}
	r, known := s.ReasonOf(id)
	// Without its reason it is known to be on its way out.
	err := errors.Join(s.remove(s.reasonOf(id)), s.FS.SyncDir(dir))
	if err == nil {
		err = s.finishRelease(id)
	}
	if err == nil {
		return nil
	}
	if known == nil {
		err = errors.Join(err, s.Quarantine(r))
	}
	return fmt.Errorf("release %s: %w", id, err)
}

func (s *Spool) finishRelease(id ident.EpisodeID) error {
	dir := s.inQuarantine(id)
	// The tarball first: without it, the folder would be packed anew.
	err := errors.Join(
		s.move(filepath.Join(dir, string(id)+wire.TarballSuffix), s.inOutbox(id, wire.TarballSuffix)),
		s.FS.SyncDir(s.outbox()), s.FS.SyncDir(dir))
	if err != nil {
		return err
	}
	if err := errors.Join(s.move(s.setAside(id), s.episode(id)), s.FS.SyncDir(s.episodes())); err != nil {
		return err
	}
	return errors.Join(s.remove(dir), s.FS.SyncDir(s.quarantine()))
}

// Discard removes an episode that is set aside, for good.
func (s *Spool) Discard(id ident.EpisodeID) error {
	gone := s.inQuarantine(id) + removingSuffix
	err := errors.Join(s.removeTree(gone), s.move(s.inQuarantine(id), gone), s.FS.SyncDir(s.quarantine()))
	if err == nil {
		err = s.removeTree(gone)
	}
	if err != nil {
		return fmt.Errorf("discard %s: %w", id, err)
	}
	return nil
}

// oldSuffix is of a folder that an older version set aside and that is being given
// the layout of today.
const oldSuffix = ".old"

// adopt gives the layout of today to what an older version set aside, which moved the
// recorder's own folder to quarantine/<id>, with reason and tarball in it. The reason
// is durable in the outbox.
func (s *Spool) adopt(id ident.EpisodeID) error {
	dir, old := s.inQuarantine(id), s.inQuarantine(id)+oldSuffix
	if s.isOld(id) {
		if err := errors.Join(s.move(dir, old), s.FS.SyncDir(s.quarantine())); err != nil {
			return err
		}
	}
	if !disk.Exists(s.FS, old) {
		return nil
	}
	if !disk.Exists(s.FS, dir) {
		if err := s.FS.Mkdir(dir, 0o750); err != nil {
			return err
		}
	}
	tarball := string(id) + wire.TarballSuffix
	if err := s.move(filepath.Join(old, tarball), filepath.Join(dir, tarball)); err != nil {
		return err
	}
	// Only here does nobody change it any more.
	if fi, err := s.FS.Lstat(filepath.Join(dir, tarball)); err == nil && (fi.IsDir() || !s.isOwn(fi) || disk.LinkCount(fi) > 1) {
		if err := s.removeTree(filepath.Join(dir, tarball)); err != nil {
			return err
		}
	}
	if err := s.remove(filepath.Join(old, episode.ReasonFile)); err != nil {
		s.Logger.Warn("old reason not removed", "episode", id, "err", err) // it is never packed
	}
	return errors.Join(s.move(old, s.setAside(id)), s.FS.SyncDir(dir), s.FS.SyncDir(s.quarantine()))
}

// isOld tells whether quarantine/<id> is, or may be, the recorder's own folder.
func (s *Spool) isOld(id ident.EpisodeID) bool {
	fi, err := s.FS.Lstat(s.inQuarantine(id))
	if err != nil {
		return false
	}
	return !s.isOwn(fi) || fi.IsDir() && disk.Exists(s.FS, filepath.Join(s.inQuarantine(id), episode.DoneMarker))
}

// isLetGo tells whether episodes/<id> is a folder of quarantine/ that an older
// version let go as a whole: a machine may go back to one for a while.
func (s *Spool) isLetGo(id ident.EpisodeID) bool {
	fi, err := s.FS.Lstat(s.episode(id))
	if err != nil || !fi.IsDir() || !s.isOwn(fi) || s.whole(id) == nil || disk.Exists(s.FS, s.inQuarantine(id)) {
		return false
	}
	within, err := s.FS.Lstat(filepath.Join(s.episode(id), setAsideName))
	return err == nil && within.IsDir()
}

// adoptOne sets an episode aside anew that an older version did, for the same reason if
// that can be believed.
func (s *Spool) adoptOne(id ident.EpisodeID) error {
	if !s.isOld(id) {
		return nil
	}
	r, err := s.ReasonOf(id)
	if err != nil {
		r = Reason{
			At: s.Now().UTC().Round(0), Episode: id, Kind: Unpackable,
			Detail: "was set aside by an older version, whose reason cannot be believed: " + err.Error(),
			Fix:    "on the lab host: sudo cis490 episode retry " + string(id),
		}
	}
	return s.Quarantine(r)
}
