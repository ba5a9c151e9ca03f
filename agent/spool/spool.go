// Package spool is a lab host's store of episodes on their way to the receiver:
//
//	episodes/<id>/            recorded; whole once it holds done.marker
//	outbox/<id>.tar.zst       packed, durable, its digest beside it in <id>.json
//	shipped/<id>.tar.zst      the receiver's receipt is durable in receipts.jsonl
//	quarantine/<id>/          set aside, with quarantine_reason.json
//
// Every step from one state to the next can be cut off by a crash at any call
// and done again: Recover finishes or takes back what it finds half done. A
// tarball and its digest are durable before they are handed out, so an episode
// that was sent once is never sent as other bytes. A receipt is durable before
// anything is removed.
//
// It decides nothing: package ship does. It removes nothing that the receiver
// has not acknowledged, except tarballs that can be packed again.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
)

// Packer packs the directory of an episode; *episode.Packer does.
type Packer interface {
	Pack(ctx context.Context, w io.Writer, dir string, id ident.EpisodeID, moved func(n int)) (episode.Packed, error)
}

var _ Packer = (*episode.Packer)(nil)

// Options describe a spool.
type Options struct {
	FS     disk.FS
	Dir    string // data_dir
	Now    func() time.Time
	Logger *slog.Logger
}

// Spool is a lab host's data directory. One goroutine at a time may work on one
// episode; different episodes may be worked on at the same time.
type Spool struct {
	Options
	receipts *ledger.Ledger
}

// The endings of files in the outbox, after the episode's id.
const (
	metaSuffix     = ".json"        // digest and size of the tarball
	reasonSuffix   = ".reason.json" // a quarantine in progress
	removingSuffix = ".removing"    // an acknowledged episode on its way out
)

// Open makes the folders that are missing and opens the receipts. Recover comes
// next.
func Open(o Options) (*Spool, error) {
	s := &Spool{Options: o}
	for _, d := range []string{s.episodes(), s.outbox(), s.shipped(), s.quarantine()} {
		if err := disk.MkdirAll(o.FS, d, 0o750); err != nil {
			return nil, fmt.Errorf("open spool: %w", err)
		}
	}
	l, err := ledger.Open(ledger.Options{FS: o.FS, Path: s.receiptsPath(), TimeKey: "at", Perm: 0o640, Now: o.Now})
	if err != nil {
		return nil, err
	}
	s.receipts = l
	return s, nil
}

// Close closes the receipts.
func (s *Spool) Close() error { return s.receipts.Close() }

func (s *Spool) episodes() string     { return filepath.Join(s.Dir, "episodes") }
func (s *Spool) outbox() string       { return filepath.Join(s.Dir, "outbox") }
func (s *Spool) shipped() string      { return filepath.Join(s.Dir, "shipped") }
func (s *Spool) quarantine() string   { return filepath.Join(s.Dir, "quarantine") }
func (s *Spool) receiptsPath() string { return filepath.Join(s.shipped(), "receipts.jsonl") }

// EpisodesDir returns the folder that new episodes appear in.
func (s *Spool) EpisodesDir() string { return s.episodes() }

func (s *Spool) episode(id ident.EpisodeID) string {
	return filepath.Join(s.episodes(), string(id))
}

func (s *Spool) inOutbox(id ident.EpisodeID, suffix string) string {
	return filepath.Join(s.outbox(), string(id)+suffix)
}

func (s *Spool) inShipped(id ident.EpisodeID) string {
	return filepath.Join(s.shipped(), string(id)+wire.TarballSuffix)
}

func (s *Spool) inQuarantine(id ident.EpisodeID) string {
	return filepath.Join(s.quarantine(), string(id))
}

// Done tells whether an episode's directory is there and whole. A symlink to one
// is none: what it leads to is not ours to remove.
func (s *Spool) Done(id ident.EpisodeID) bool { return s.whole(id) == nil }

// whole is fs.ErrNotExist where an episode's directory is not there, or not whole,
// and another error where that cannot be told.
func (s *Spool) whole(id ident.EpisodeID) error {
	marker, err := s.FS.Lstat(filepath.Join(s.episode(id), episode.DoneMarker))
	if err != nil {
		return err
	}
	dir, err := s.FS.Lstat(s.episode(id))
	if err != nil {
		return err
	}
	if !marker.Mode().IsRegular() || !dir.IsDir() {
		return fs.ErrNotExist
	}
	return nil
}

// Scan returns the ids of whole episodes that known does not know yet, in order
// of age, and how many others are being recorded. It looks into no directory
// that is known.
func (s *Spool) Scan(known func(ident.EpisodeID) bool) (found []ident.EpisodeID, recording int, err error) {
	entries, err := s.FS.ReadDir(s.episodes())
	if err != nil {
		return nil, 0, fmt.Errorf("scan episodes: %w", err)
	}
	for _, e := range entries {
		id, err := ident.ParseEpisodeID(e.Name())
		if err != nil || !e.IsDir() || known(id) {
			continue
		}
		if s.Done(id) {
			found = append(found, id)
		} else {
			recording++
		}
	}
	return found, recording, nil
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

// Look returns what is known of a waiting episode without packing it.
func (s *Spool) Look(id ident.EpisodeID) Item {
	var it Item
	if m, err := episode.ReadMeta(s.FS, s.episode(id)); err == nil {
		it.Commit = m.Code.Commit
	} else if t, err := s.readSidecar(id); err == nil {
		return Item{t.Commit, t.Size}
	}
	entries, err := s.FS.ReadDir(s.episode(id))
	if err != nil {
		return it
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			it.Bytes += fi.Size()
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

// move renames; that it was done before is fine.
func (s *Spool) move(from, to string) error {
	err := s.FS.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) && !disk.Exists(s.FS, from) {
		return nil
	}
	if err != nil {
		return err
	}
	// A power cut may have left both names to one file; rename(2) leaves both too.
	a, err := s.FS.Lstat(from)
	if err != nil {
		return nil
	}
	if b, err := s.FS.Lstat(to); err == nil && !a.IsDir() && disk.SameFile(a, b) {
		return s.remove(from)
	}
	return nil
}

// remove removes a file; that it is gone is fine.
func (s *Spool) remove(name string) error {
	if err := s.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeTree removes a directory and all in it, following nothing.
func (s *Spool) removeTree(dir string) error {
	entries, err := s.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = s.removeTree(name)
		} else {
			err = s.remove(name)
		}
		if err != nil {
			return err
		}
	}
	return s.remove(dir)
}
