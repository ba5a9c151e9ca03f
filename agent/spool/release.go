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

// Release moves a quarantined episode back to the outbox. On an error it stays quarantined
// for the same reason.
func (s *Spool) Release(id ident.EpisodeID) error {
	dir := s.inQuarantine(id)
	if !disk.Exists(s.FS, dir) {
		return nil
	}
	if err := s.requarantine(id); err != nil {
		return fmt.Errorf("release %s: %w", id, err)
	}
	r, known := s.ReasonOf(id)
	// Removing the reason marks the release; Recover finishes it.
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
	// The tarball first: without it, the folder would be packed again.
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

// Discard deletes a quarantined episode.
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

// oldSuffix marks an older version's quarantine folder during its migration.
const oldSuffix = ".old"

// migrate converts an older version's quarantine/<id>, which is the recorder's own folder
// with reason and tarball in it, to the current layout. The reason is durable in the
// outbox.
func (s *Spool) migrate(id ident.EpisodeID) error {
	dir, old := s.inQuarantine(id), s.inQuarantine(id)+oldSuffix
	if s.isLegacy(id) {
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
	// From here on, the recorder's user cannot change the tarball.
	if fi, err := s.FS.Lstat(filepath.Join(dir, tarball)); err == nil && (fi.IsDir() || !s.isOwn(fi) || disk.LinkCount(fi) > 1) {
		if err := s.removeTree(filepath.Join(dir, tarball)); err != nil {
			return err
		}
	}
	if err := s.remove(filepath.Join(old, episode.ReasonFile)); err != nil {
		s.Logger.Warn("old reason not removed", "episode", id, "err", err) // the packer ignores it
	}
	return errors.Join(s.move(old, s.setAside(id)), s.FS.SyncDir(dir), s.FS.SyncDir(s.quarantine()))
}

// isLegacy reports whether quarantine/<id> is, or may be, the recorder's own folder.
func (s *Spool) isLegacy(id ident.EpisodeID) bool {
	fi, err := s.FS.Lstat(s.inQuarantine(id))
	if err != nil {
		return false
	}
	return !s.isOwn(fi) || fi.IsDir() && disk.Exists(s.FS, filepath.Join(s.inQuarantine(id), episode.DoneMarker))
}

// wasReleased reports whether episodes/<id> is a whole quarantine folder that an older
// version released. A rollback may run such a version for a while.
func (s *Spool) wasReleased(id ident.EpisodeID) bool {
	fi, err := s.FS.Lstat(s.episode(id))
	if err != nil || !fi.IsDir() || !s.isOwn(fi) || s.whole(id) == nil || disk.Exists(s.FS, s.inQuarantine(id)) {
		return false
	}
	within, err := s.FS.Lstat(filepath.Join(s.episode(id), setAsideName))
	return err == nil && within.IsDir()
}

// requarantine quarantines an older version's episode in the current layout, with the same
// reason if the shipper wrote it.
func (s *Spool) requarantine(id ident.EpisodeID) error {
	if !s.isLegacy(id) {
		return nil
	}
	r, err := s.ReasonOf(id)
	if err != nil {
		r = Reason{
			At: s.Now().UTC().Round(0), Episode: id, Kind: Unpackable,
			Detail: "was quarantined by an older version, whose reason file is not trustworthy: " + err.Error(),
			Fix:    "on the lab host: sudo cis490 episode retry " + string(id),
		}
	}
	return s.Quarantine(r)
}
