// Package spool is a lab host's store of episodes on their way to the receiver:
//
//	episodes/<id>/            recorded; whole once it holds done.marker
//	outbox/<id>.tar.zst       packed, durable, its digest beside it in <id>.json
//	shipped/<id>.tar.zst      the receiver's receipt is durable in receipts.jsonl
//	quarantine/<id>/          quarantined: quarantine_reason.json, the recorder's folder
//	                          as episode/, and <id>.tar.zst if that is still needed
//
// The recorder's user owns episodes/ and may be hostile: it may rename files, keep them
// open and continue to write. So the shipper takes nothing from an episode's folder on
// trust except that done.marker exists. Tarballs, digests, reasons and receipts lie in
// folders that only the shipper's user can write. A folder is quarantined or removed in a
// place where the recorder cannot reach its name. A folder that cannot be moved or removed
// is skipped and counted (ErrStuck), and blocks no other episode.
//
// A crash may interrupt any step from one state to the next; Recover finishes it or rolls
// it back. A tarball and its digest are durable before they are handed out, so a sent
// episode is never sent with other bytes. A receipt is durable before anything is removed.
//
// Package ship makes the decisions. The spool removes only what the receiver has
// acknowledged, and tarballs that can be packed again.
package spool

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
)

// Packer is the interface of *episode.Packer.
type Packer interface {
	Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error)
}

var _ Packer = (*episode.Packer)(nil)

// Options configure a spool.
type Options struct {
	FS     disk.FS
	Dir    string // data_dir
	Now    func() time.Time
	Logger *slog.Logger
}

// Spool is a lab host's data directory. Calls for different episodes may run concurrently;
// calls for one episode may not.
type Spool struct {
	Options
	receipts *ledger.Ledger
	left     left
}

// Suffixes after the episode's id.
const (
	metaSuffix     = ".json"        // digest and size of the tarball
	reasonSuffix   = ".reason.json" // a quarantine in progress
	removingSuffix = ".removing"    // in shipped/ and quarantine/: a folder that is being removed
)

// Open creates missing folders and opens the receipts. The caller calls Recover next.
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

// setAsideName is the name of the recorder's folder in quarantine/<id>/.
const setAsideName = "episode"

// setAside returns where a quarantined episode's folder is.
func (s *Spool) setAside(id ident.EpisodeID) string {
	return filepath.Join(s.inQuarantine(id), setAsideName)
}

// removing returns where a shipped episode's folder is until it is removed.
func (s *Spool) removing(id ident.EpisodeID) string {
	return filepath.Join(s.shipped(), string(id)+removingSuffix)
}
