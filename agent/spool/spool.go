// Package spool is a lab host's store of episodes on their way to the receiver:
//
//	episodes/<id>/            recorded; whole once it holds done.marker
//	outbox/<id>.tar.zst       packed, durable, its digest beside it in <id>.json
//	shipped/<id>.tar.zst      the receiver's receipt is durable in receipts.jsonl
//	quarantine/<id>/          set aside: quarantine_reason.json, the recorder's folder
//	                          as episode/, and <id>.tar.zst if that is still needed
//
// The recorder's user owns episodes/ and is hostile by design: it may change names,
// keep files open and run on. So nothing in an episode's folder is believed beyond
// "done.marker is here". What is believed (tarball, digest, reason, receipt) lies in
// folders that only the shipper's user can write. A folder is removed, or set aside,
// in a place where the recorder cannot reach its name. A folder that cannot be moved
// or removed is passed over (ErrStuck): it is counted, and no other episode waits.
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

// Packer packs the directory of an episode; *episode.Packer does.
type Packer interface {
	Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error)
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
	left     left
}

// The endings of names, after the episode's id.
const (
	metaSuffix     = ".json"        // digest and size of the tarball
	reasonSuffix   = ".reason.json" // a quarantine in progress
	removingSuffix = ".removing"    // in shipped/ and quarantine/: a folder on its way out
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

// setAsideName is the recorder's folder within quarantine/<id>/.
const setAsideName = "episode"

// setAside is where an episode's folder lies while it is set aside.
func (s *Spool) setAside(id ident.EpisodeID) string {
	return filepath.Join(s.inQuarantine(id), setAsideName)
}

// removing is where an acknowledged episode's folder lies until it is removed.
func (s *Spool) removing(id ident.EpisodeID) string {
	return filepath.Join(s.shipped(), string(id)+removingSuffix)
}
