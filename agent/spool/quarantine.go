package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Reason is quarantine_reason.json.
type Reason struct {
	At      time.Time       `json:"at"`
	Episode ident.EpisodeID `json:"episode"`
	Kind    wire.Kind       `json:"kind"`             // of the refusal; "unpackable" where it was never sent
	Status  int             `json:"status,omitempty"` // of the refusal
	Detail  string          `json:"detail"`
	Fix     string          `json:"fix"`
	Commit  ident.Commit    `json:"commit,omitempty"`
	Digest  ident.Digest    `json:"sha256,omitempty"`
	Policy  string          `json:"policy,omitempty"` // of the receiver when it refused
	Retry   bool            `json:"retry"`            // once more by itself, when the policy changes
}

// Unpackable is the kind of an episode that was set aside before it was sent.
const Unpackable wire.Kind = "unpackable"

// Quarantine sets an episode aside. A tarball that may yet be needed as it is
// stays with it: that of a conflict, and one whose directory is gone.
func (s *Spool) Quarantine(r Reason) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("note reason: %w", err)
	}
	// The reason comes first: with it alone, the rest can be done at any time.
	if err := disk.ReplaceBytes(s.FS, s.inOutbox(r.Episode, reasonSuffix), 0o640, append(b, '\n')); err != nil {
		return fmt.Errorf("note reason: %w", err)
	}
	return s.finishQuarantine(r)
}

func (s *Spool) finishQuarantine(r Reason) error {
	id, dir := r.Episode, s.inQuarantine(r.Episode)
	if err := s.move(s.episode(id), dir); err != nil {
		return fmt.Errorf("quarantine %s: %w", id, err)
	}
	if !disk.Exists(s.FS, dir) {
		if err := s.FS.Mkdir(dir, 0o750); err != nil {
			return fmt.Errorf("quarantine %s: %w", id, err)
		}
	}
	hasDir := disk.Exists(s.FS, filepath.Join(dir, episode.DoneMarker))
	tarball := s.inOutbox(id, wire.TarballSuffix)
	var err error
	if r.Kind == wire.OtherDigest || !hasDir {
		err = s.move(tarball, filepath.Join(dir, string(id)+wire.TarballSuffix))
	} else {
		err = s.remove(tarball)
	}
	err = errors.Join(err,
		s.remove(tarball+disk.Partial),
		s.move(s.inOutbox(id, reasonSuffix), filepath.Join(dir, episode.ReasonFile)),
		s.FS.SyncDir(dir), s.FS.SyncDir(s.quarantine()), s.FS.SyncDir(s.episodes()),
		s.remove(s.inOutbox(id, metaSuffix)), s.FS.SyncDir(s.outbox()))
	if err != nil {
		return fmt.Errorf("quarantine %s: %w", id, err)
	}
	return nil
}

// Quarantined returns the ids of what is set aside, by age.
func (s *Spool) Quarantined() ([]ident.EpisodeID, error) { return s.ids(s.quarantine(), "") }

// ReasonOf returns why an episode was set aside.
func (s *Spool) ReasonOf(id ident.EpisodeID) (Reason, error) {
	return s.readReason(filepath.Join(s.inQuarantine(id), episode.ReasonFile))
}

func (s *Spool) readReason(path string) (Reason, error) {
	var r Reason
	b, err := disk.ReadFile(s.FS, path, maxSidecar)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Reason{}, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// Release lets a quarantined episode wait for shipping again.
func (s *Spool) Release(id ident.EpisodeID) error {
	dir := s.inQuarantine(id)
	if !disk.Exists(s.FS, dir) {
		return nil
	}
	// Without its reason it is known to be on its way out.
	err := errors.Join(s.remove(filepath.Join(dir, episode.ReasonFile)), s.FS.SyncDir(dir))
	if err == nil {
		err = s.finishRelease(id)
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", id, err)
	}
	return nil
}

func (s *Spool) finishRelease(id ident.EpisodeID) error {
	dir := s.inQuarantine(id)
	err := errors.Join(
		s.move(filepath.Join(dir, string(id)+wire.TarballSuffix), s.inOutbox(id, wire.TarballSuffix)),
		s.FS.SyncDir(s.outbox()), s.FS.SyncDir(dir))
	if err != nil {
		return err
	}
	left, err := s.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(left) == 0 {
		err = s.remove(dir)
	} else {
		err = s.move(dir, s.episode(id))
	}
	return errors.Join(err, s.FS.SyncDir(s.episodes()), s.FS.SyncDir(s.quarantine()))
}

// Discard removes an episode that is set aside, for good.
func (s *Spool) Discard(id ident.EpisodeID) error {
	gone := s.inOutbox(id, removingSuffix)
	err := errors.Join(s.move(s.inQuarantine(id), gone), s.FS.SyncDir(s.outbox()), s.FS.SyncDir(s.quarantine()))
	if err == nil {
		err = s.removeTree(gone)
	}
	if err != nil {
		return fmt.Errorf("discard %s: %w", id, err)
	}
	return nil
}
