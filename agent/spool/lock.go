package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"cis490/internal/fault"
)

// ErrLocked tells that another shipper works on the spool.
var ErrLocked = errors.New("another shipper works on this spool")

// Lock keeps other shippers off a data directory until unlock is called or the
// process ends.
func Lock(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "shipper.lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fault.Exit(fault.Fix(fmt.Errorf("%w (%s)", ErrLocked, dir),
			"it ships by itself: journalctl -u cis490-shipper; to ship by hand: sudo systemctl stop cis490-shipper"), fault.TempFail)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
