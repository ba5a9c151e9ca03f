package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// lockWait is how long an install waits for another install or an update.
const lockWait = time.Minute

// Lock takes the lock that installs and updates share, below root ("" is this machine), and
// waits for it up to a minute. The kernel releases it with the process.
func Lock(ctx context.Context, fsys disk.FS, root string) (unlock func(), err error) {
	f, err := Hold(ctx, fsys, root)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil // releases the lock
}

// Hold is Lock for a caller that passes the lock to an install it starts: the child
// inherits the open file, and so the lock.
func Hold(ctx context.Context, fsys disk.FS, root string) (*os.File, error) {
	dir := filepath.Join(root, stateDir)
	if err := disk.MkdirAll(fsys, filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, err
	}
	opened, err := fsys.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f, ok := opened.(*os.File)
	if !ok { // a child can inherit only an *os.File
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, errors.ErrUnsupported), opened.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fault.Exit(fault.Fix(errors.New("another install or update is running"),
				"journalctl -u cis490-autoupdate -n 20   # then retry"), fault.TempFail)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// adopt checks that an inherited descriptor is the lock file below root, and takes the
// lock: the same open file holds it already, another one gets it only if it is free.
func adopt(f *os.File, fsys disk.FS, root string) (unlock func(), err error) {
	path := filepath.Join(root, stateDir, "lock")
	there, err := fsys.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("inherit the lock: %w", err)
	}
	mine, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("inherit the lock: %w", err)
	}
	if !disk.SameFile(mine, there) {
		return nil, fmt.Errorf("inherit the lock: the inherited file is not %s", path)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fault.Exit(fmt.Errorf("inherit the lock: %w", err), fault.TempFail)
	}
	return func() {}, nil // the caller releases it
}
