// Package local is the backend that stores everything in a data folder: tarballs by host,
// *.jsonl files for the logs, and a file for each document.
//
// It relies on internal/disk and internal/ledger: documents are replaced by rename, a row
// is one line that is synced, and a torn last line is cut when a log is opened. It never
// follows a link that serve's user could have made in place of a file. Package store
// handles the tarballs.
//
//storage:adapter
package local

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ledger"
	"cis490/internal/machine"
	"cis490/receiver"
	"cis490/receiver/store"
)

// The file names of the logs.
const (
	IndexFile      = "index.jsonl"
	RejectionsFile = "rejections.jsonl"
	AlertsFile     = "alerts.jsonl"
	SilencesFile   = "silences.jsonl"
)

// Options describe a backend.
type Options struct {
	FS  disk.FS
	Dir string // the data folder
	// Known is the folder with the ids of the stores used on this machine; empty: not
	// known.
	Known string
	// Spare is the folder for documents that fleet-check cannot write to Dir; empty: none.
	Spare string
	// Place is where the tarballs are, if they are not in Dir.
	Place string
	Now   func() time.Time // for rows that are appended; nil: time.Now
	// Reserve is how many bytes stay free, and Log has repairs; both are for Serve.
	Reserve int64
	Log     *slog.Logger
}

// Open returns the backend of a data folder. It does not open any file yet.
func Open(o Options) receiver.Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	logs := serveLogs{newLog(o, indexFormat()), newLog(o, rejectionFormat()), newLog(o, silenceFormat())}
	b := receiver.Backend{
		Name:       o.Dir,
		Episodes:   episodes{o},
		Index:      logs.index,
		Rejections: logs.rejections,
		Alerts:     newLog(o, alertFormat()),
		Silences:   logs.silences,
		Docs:       Folder(o.FS, o.Dir),
		Releases:   releases{o.FS, ReleasesDir(o.Dir)},
		Lease:      o.lease,
		Serve:      func() (receiver.Store, error) { return o.serve(logs) },
		Explain:    o.explain,
		Checks:     o.checks,
		Since: func() time.Time {
			fi, err := o.FS.Lstat(filepath.Join(o.Dir, store.IDFile))
			if err != nil {
				return time.Time{}
			}
			return fi.ModTime()
		},
		Present: func() error { return store.Vanished(o.FS, o.Dir, o.Known, o.hasRows) },
	}
	if o.Spare != "" {
		b.Spare = Folder(disk.OS{}, o.Spare)
	}
	return b
}

// CataloguePath returns where serve has the catalogue of a data folder.
func CataloguePath(dir string) string { return filepath.Join(dir, "catalogue.db") }

// hasRows reports whether the index has a row.
func (o Options) hasRows() bool {
	_, ok, err := ledger.Last(o.FS, filepath.Join(o.Dir, IndexFile), receivedAt)
	return ok && err == nil
}

// lease takes the lock of one kind of work. A disk without locks is used by one process
// only.
func (o Options) lease(w receiver.Work) (c io.Closer, err error) {
	locker, ok := o.FS.(disk.Locker)
	switch {
	case !ok:
		return nobody{}, nil
	case w == receiver.Checking: // the data folder itself is serve's
		if err := o.owned(); err != nil {
			return nil, err
		}
		c, err = disk.OS{}.LockFile(filepath.Join(o.Dir, "fleet-check.lock"), 0o600)
	case w == receiver.Moving:
		dir := filepath.Join(o.Dir, store.EpisodesDir)
		if err = disk.MkdirAll(o.FS, dir, 0o750); err == nil { // not there if a database has the rows
			c, err = locker.Lock(dir)
		}
	default:
		c, err = locker.Lock(o.Dir)
	}
	if errors.Is(err, disk.ErrLocked) {
		err = fmt.Errorf("%w: %w", receiver.ErrLeased, err)
	}
	return c, err
}

// owned returns an OwnerError if the data folder belongs to another user, whose services
// could not write files that this user makes.
func (o Options) owned() error {
	d, err := disk.OS{}.OpenFolder(o.Dir)
	if err != nil {
		return err
	}
	fi, err := d.Stat()
	if uid, ok := disk.Owner(fi); err == nil && ok && uid != os.Geteuid() {
		err = &receiver.OwnerError{Path: o.Dir, Owner: machine.UserName(uint32(uid)), User: machine.UserName(uint32(os.Geteuid()))}
	}
	return errors.Join(err, d.Close())
}

// nobody is the lease on a disk without locks.
type nobody struct{}

// Close does nothing.
func (nobody) Close() error { return nil }
