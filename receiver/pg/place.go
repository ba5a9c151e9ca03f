package pg

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

// placed returns an error if the rows of the data folder are in its files.
func (d *db) placed() error {
	if local.LedgerOf(d.o.FS, d.o.Dir) != "" { // what its files have is from before a move
		return nil
	}
	at, err := local.Place(d.o.FS, d.o.Dir)
	if err != nil {
		return err
	}
	if fi, e := d.o.FS.Lstat(filepath.Join(d.o.Dir, local.IndexFile)); at != "" || e == nil && fi.Size() > 0 {
		return fault.Fix(fmt.Errorf("%w: the rows of %s are in its files", receiver.ErrUnready, d.o.Dir),
			`set [ledger] backend = "files" in receiver.toml   # or move them: sudo cis490 store copy --help`)
	}
	return nil
}

// prepare makes the folders for uploads in progress, takes the folder's lease, and removes what
// a crash left.
func (o Options) prepare() (_ io.Closer, err error) {
	staged := filepath.Join(o.Dir, store.StagedDir)
	if err := disk.MkdirAll(o.FS, staged, 0o750); err != nil {
		return nil, fault.Fix(fmt.Errorf("open data folder: %w", err), "sudo cis490 install receiver   # makes it, with the right owner")
	}
	lease, err := o.Base.Lease(receiver.Serving)
	if err != nil {
		return nil, fault.Fix(fmt.Errorf("open data folder: %w", err),
			"systemctl status cis490-receiver   # one receiver at a time may have "+o.Dir)
	}
	left, err := o.FS.ReadDir(staged)
	for _, f := range left {
		if strings.HasSuffix(f.Name(), disk.Partial) {
			err = errors.Join(err, o.FS.Remove(filepath.Join(staged, f.Name())))
		}
	}
	if err != nil {
		return nil, errors.Join(err, lease.Close())
	}
	return lease, nil
}

// Place notes in a data folder that its rows are in a database, and who this receiver is.
func Place(fsys disk.FS, dir string) error {
	if local.LedgerOf(fsys, dir) != "" {
		return nil
	}
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	return local.SetLedger(fsys, dir, hex.EncodeToString(id))
}

// holder names this receiver in leases. Two receivers may have the same name.
func (d *db) holder() string {
	name := d.o.Name
	if name == "" {
		name, _ = os.Hostname() // empty: the id below is enough
	}
	if d.o.Dir == "" { // an authority has no data folder
		return name
	}
	return strings.TrimSpace(name + " " + local.LedgerOf(d.o.FS, d.o.Dir))
}
