package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Reason is the content of quarantine_reason.json.
type Reason struct {
	At      time.Time       `json:"at"`
	Episode ident.EpisodeID `json:"episode"`
	Kind    wire.Kind       `json:"kind"`             // of the rejection, or Unpackable or Changed
	Status  int             `json:"status,omitempty"` // of the rejection
	Detail  string          `json:"detail"`
	Fix     string          `json:"fix"`
	Commit  ident.Commit    `json:"commit,omitempty"`
	Digest  ident.Digest    `json:"sha256,omitempty"`
	Policy  string          `json:"policy,omitempty"` // the receiver's when it rejected the episode
	Retry   bool            `json:"retry"`            // once, when the policy changes
}

// Kinds of episodes that the shipper itself quarantined.
const (
	Unpackable wire.Kind = "unpackable" // could not be packed
	Changed    wire.Kind = "changed"    // the directory changed after its tarball was sent
)

// Quarantine sets an episode aside. It keeps the tarball of a conflict and one whose
// directory is gone or changed, because they cannot be made again. An error that wraps
// ErrStuck means that only the folder is still in episodes/.
func (s *Spool) Quarantine(r Reason) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("save reason: %w", err)
	}
	// The reason comes first: Recover can do the rest from it.
	if err := disk.ReplaceBytes(s.FS, s.inOutbox(r.Episode, reasonSuffix), 0o640, append(b, '\n')); err != nil {
		return fmt.Errorf("save reason: %w", err)
	}
	return s.finishQuarantine(r)
}

// finishQuarantine does the rest once the reason is durable in the outbox. It moves the
// recorder's folder last, so that a stuck folder does not block the rest.
func (s *Spool) finishQuarantine(r Reason) error {
	id, dir := r.Episode, s.inQuarantine(r.Episode)
	if err := s.migrate(id); err != nil {
		return fmt.Errorf("quarantine %s: %w", id, err)
	}
	if err := s.FS.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("quarantine %s: %w", id, err)
	}
	hasDir := s.whole(id) == nil || disk.Exists(s.FS, filepath.Join(s.setAside(id), episode.DoneMarker))
	tarball := s.inOutbox(id, wire.TarballSuffix)
	var err error
	if r.Kind == wire.OtherDigest || r.Kind == Changed || !hasDir {
		err = s.move(tarball, filepath.Join(dir, string(id)+wire.TarballSuffix))
	} else {
		err = s.remove(tarball)
	}
	err = errors.Join(err,
		s.remove(tarball+disk.Partial),
		s.move(s.inOutbox(id, reasonSuffix), s.reasonOf(id)),
		s.FS.SyncDir(dir), s.FS.SyncDir(s.quarantine()),
		s.remove(s.inOutbox(id, metaSuffix)), s.FS.SyncDir(s.outbox()))
	if err != nil {
		return fmt.Errorf("quarantine %s: %w", id, err)
	}
	return s.moveAside(id)
}

// moveAside moves a quarantined episode's folder to its reason.
func (s *Spool) moveAside(id ident.EpisodeID) error {
	if !disk.Exists(s.FS, s.episode(id)) {
		return nil
	}
	if err := s.move(s.episode(id), s.setAside(id)); err != nil {
		return fmt.Errorf("move %s: %w: %w", s.episode(id), ErrStuck, err)
	}
	if err := errors.Join(s.FS.SyncDir(s.inQuarantine(id)), s.FS.SyncDir(s.episodes())); err != nil {
		return fmt.Errorf("move %s: %w: %w", s.episode(id), ErrStuck, err)
	}
	return nil
}

// Quarantined returns the ids of the quarantined episodes, oldest first.
func (s *Spool) Quarantined() ([]ident.EpisodeID, error) { return s.ids(s.quarantine(), "") }

func (s *Spool) reasonOf(id ident.EpisodeID) string {
	return filepath.Join(s.inQuarantine(id), episode.ReasonFile)
}

// ReasonOf returns why an episode was quarantined. It returns an error if someone other
// than the shipper may have written the reason.
func (s *Spool) ReasonOf(id ident.EpisodeID) (Reason, error) {
	return s.readReason(s.reasonOf(id), id)
}

func (s *Spool) readReason(path string, id ident.EpisodeID) (Reason, error) {
	var r Reason
	b, err := s.readOwn(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Reason{}, fmt.Errorf("read %s: %w", path, err)
	}
	if r.Episode != id {
		return Reason{}, fmt.Errorf("read %s: it names episode %q", path, r.Episode)
	}
	return r, nil
}
