package spool

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// ErrLocked means that another shipper uses the spool.
var ErrLocked = errors.New("another shipper uses this spool")

// Lockable is a disk with exclusive locks.
type Lockable interface {
	disk.FS
	disk.Locker
}

// Lock locks a data directory against other shippers until it is closed or the process
// ends. The lock is in shipped/, which the recorder's user cannot open.
func Lock(fsys Lockable, dir string) (io.Closer, error) {
	shipped := filepath.Join(dir, "shipped")
	if err := disk.MkdirAll(fsys, shipped, 0o750); err != nil {
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	held, err := fsys.Lock(shipped)
	if errors.Is(err, disk.ErrLocked) {
		return nil, fault.Exit(fault.Fix(fmt.Errorf("%w (%s)", ErrLocked, dir),
			"nothing: the service ships: journalctl -u cis490-shipper; to ship by hand: sudo systemctl stop cis490-shipper"), fault.TempFail)
	}
	if err != nil {
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	return held, nil
}
