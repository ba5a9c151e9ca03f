package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Attrs is what a file system offers that keeps small named values beside a
// file's content. A file system without them answers with an error that wraps
// errors.ErrUnsupported; callers then do without.
type Attrs interface {
	// SetAttr sets an attribute of an open file; like content it is durable after Sync.
	SetAttr(f File, attr string, value []byte) error
	// Attr reads an attribute of at most 256 bytes.
	Attr(name, attr string) ([]byte, error)
}

// Space is what a file system offers that knows how much room it has.
type Space interface {
	// Free returns the bytes that this process may still write under name.
	Free(name string) (int64, error)
}

// Locker is what a file system offers on which one process can keep others out.
type Locker interface {
	// Lock takes the lock on a folder; held by another process it fails with
	// ErrLocked. It is given back by Close and by the end of the process.
	Lock(name string) (io.Closer, error)
}

// Links is what a file system offers that has symlinks.
type Links interface {
	Symlink(target, name string) error
	Readlink(name string) (string, error)
}

// Relink points a symlink elsewhere, durably: after a crash it leads to the old
// target or to the new one, and the name is never absent.
func Relink(fsys FS, target, name string) error {
	l, ok := fsys.(Links)
	if !ok {
		return fmt.Errorf("point %s to %s: %w", name, target, errors.ErrUnsupported)
	}
	partial := name + Partial
	if err := fsys.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := l.Symlink(target, partial); err != nil {
		return err
	}
	if err := fsys.Rename(partial, name); err != nil {
		return errors.Join(err, fsys.Remove(partial))
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// Readlink returns where a symlink leads, without following further.
func Readlink(fsys FS, name string) (string, error) {
	l, ok := fsys.(Links)
	if !ok {
		return "", fmt.Errorf("read %s: %w", name, errors.ErrUnsupported)
	}
	return l.Readlink(name)
}

// ErrLocked tells that another process holds the lock.
var ErrLocked = errors.New("in use by another process")

var (
	_ Attrs  = OS{}
	_ Space  = OS{}
	_ Locker = OS{}
	_ Links  = OS{}
)

// Symlink makes a symlink as os.Symlink does.
func (OS) Symlink(target, name string) error {
	return within("symlink", name, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
}

// Readlink reads a symlink as os.Readlink does.
func (OS) Readlink(name string) (target string, err error) {
	err = opened("readlink", name, unix.O_PATH|unix.O_NOFOLLOW, func(fd int) error {
		target, err = readlink(fd)
		return err
	})
	return target, err
}

// SetAttr sets a user extended attribute.
func (OS) SetAttr(f File, attr string, value []byte) error {
	o, ok := f.(*os.File)
	if !ok {
		return errors.ErrUnsupported
	}
	return attrError("set", o.Name(), unix.Fsetxattr(int(o.Fd()), "user."+attr, value, 0))
}

// Attr reads a user extended attribute.
func (OS) Attr(name, attr string) ([]byte, error) {
	b := make([]byte, 256)
	var n int
	err := opened("open", name, unix.O_RDONLY|unix.O_NONBLOCK, func(fd int) (err error) {
		n, err = unix.Fgetxattr(fd, "user."+attr, b)
		return err
	})
	if err != nil {
		return nil, attrError("read", name, err)
	}
	return b[:n], nil
}

func attrError(op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return fmt.Errorf("%s attribute of %s: %w (%w)", op, name, errors.ErrUnsupported, err)
	default:
		return fmt.Errorf("%s attribute of %s: %w", op, name, err)
	}
}

// Statfs describes the file system that holds a name.
func (OS) Statfs(name string) (st unix.Statfs_t, err error) {
	err = opened("statfs", name, unix.O_PATH, func(fd int) error { return unix.Fstatfs(fd, &st) })
	return st, err
}

// Free returns what is left to those who are not root.
func (o OS) Free(name string) (int64, error) {
	st, err := o.Statfs(name)
	return available(&st), err
}

func available(st *unix.Statfs_t) int64 { return int64(st.Bavail) * int64(st.Bsize) } // Bsize has another type on arm

// LockName is the file in a folder on which its lock is.
const LockName = ".lock"

// Lock takes flock(2) on a file in the folder, which it makes for the folder's owner
// alone: whoever may list a folder can lock the folder itself, and keep its owner out.
func (o OS) Lock(name string) (io.Closer, error) {
	path := filepath.Join(name, LockName)
	f, err := o.open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = o.asFolder(f, name)
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	l, err := o.LockFile(path, 0o600)
	if err != nil {
		return nil, err // not l: a nil *os.File in an interface is not nil
	}
	return l, nil
}

// asFolder gives a file that root has made to the owner of its folder.
func (o OS) asFolder(f *os.File, dir string) error {
	var st unix.Stat_t
	return opened("stat", dir, unix.O_PATH, func(fd int) error {
		if err := unix.Fstat(fd, &st); err != nil || os.Geteuid() != 0 {
			return err
		}
		return f.Chown(int(st.Uid), int(st.Gid))
	})
}

// LockFile takes flock(2) on a file, which it makes where it is missing. Held by
// another process it fails with ErrLocked. Close and the end of the process give
// the lock back, and leave the file.
func (o OS) LockFile(name string, perm fs.FileMode) (*os.File, error) {
	f, err := o.open(name, os.O_RDWR|os.O_CREATE, perm)
	if err == nil {
		err = flock(f)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func flock(f *os.File) error {
	_, err := retry(func() (int, error) { return 0, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", f.Name(), unsupported(err)), f.Close())
	}
	return nil
}

// BeginWrite tells the disk to begin writing a part of a file, without waiting for
// it. It makes nothing durable: that and its failure are for Sync to tell.
func BeginWrite(f File, off, n int64) error {
	o, ok := f.(*os.File)
	if !ok {
		return nil
	}
	raw, err := o.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE) // a hint
	})
}
