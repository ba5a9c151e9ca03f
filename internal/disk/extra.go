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

// Attrs is implemented by a file system with extended attributes. On one without them a
// call returns an error that wraps errors.ErrUnsupported.
type Attrs interface {
	// SetAttr sets an attribute of an open file. It is durable after Sync, like content.
	SetAttr(f File, attr string, value []byte) error
	// Attr reads an attribute of at most 256 bytes.
	Attr(name, attr string) ([]byte, error)
}

// Space is implemented by a file system that knows its free space.
type Space interface {
	// Free returns the bytes that this process may still write under name.
	Free(name string) (int64, error)
}

// Locker is implemented by a file system with exclusive locks.
type Locker interface {
	// Lock locks a folder. It fails with ErrLocked if another process holds the lock.
	// Close, or the end of the process, releases it.
	Lock(name string) (io.Closer, error)
}

// Links is implemented by a file system with symlinks.
type Links interface {
	Symlink(target, name string) error
	Readlink(name string) (string, error)
}

// Relink changes a symlink's target, durably: after a crash the link has the old target or
// the new one, and always exists.
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

// Readlink returns a symlink's target.
func Readlink(fsys FS, name string) (string, error) {
	l, ok := fsys.(Links)
	if !ok {
		return "", fmt.Errorf("read %s: %w", name, errors.ErrUnsupported)
	}
	return l.Readlink(name)
}

// ErrLocked means that another process holds the lock.
var ErrLocked = errors.New("in use by another process")

var (
	_ Attrs  = OS{}
	_ Space  = OS{}
	_ Locker = OS{}
	_ Links  = OS{}
)

// Symlink is os.Symlink.
func (OS) Symlink(target, name string) error {
	return within("symlink", name, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
}

// Readlink is os.Readlink.
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

// Statfs describes the file system that contains a name.
func (OS) Statfs(name string) (st unix.Statfs_t, err error) {
	err = opened("statfs", name, unix.O_PATH, func(fd int) error { return unix.Fstatfs(fd, &st) })
	return st, err
}

// Free returns the bytes available to users other than root.
func (o OS) Free(name string) (int64, error) {
	st, err := o.Statfs(name)
	return available(&st), err
}

func available(st *unix.Statfs_t) int64 { return int64(st.Bavail) * int64(st.Bsize) } // Bsize has another type on arm

// LockName is the name of a folder's lock file.
const LockName = ".lock"

// Lock takes flock(2) on a file in the folder, which only the folder's owner can open. A
// lock on the folder itself could be taken by anyone who may list it.
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
	return o.LockFile(path, 0o600)
}

// asFolder gives a file that root created to its folder's owner.
func (o OS) asFolder(f *os.File, dir string) error {
	var st unix.Stat_t
	return opened("stat", dir, unix.O_PATH, func(fd int) error {
		if err := unix.Fstat(fd, &st); err != nil || os.Geteuid() != 0 {
			return err
		}
		return f.Chown(int(st.Uid), int(st.Gid))
	})
}

// LockFile takes flock(2) on a file, and creates the file if needed. It fails with
// ErrLocked if another process holds the lock. Close, or the end of the process, releases
// it; the file stays.
func (o OS) LockFile(name string, perm fs.FileMode) (io.Closer, error) {
	f, err := o.open(name, os.O_RDWR|os.O_CREATE, perm)
	if err == nil {
		err = flock(f)
	}
	if err != nil {
		return nil, err
	}
	return held{f}, nil
}

// held is a file whose lock this process has.
type held struct{ *os.File }

// Close unlocks first: a child that is between fork(2) and execve(2) has the file open, too,
// and would keep the lock until it has left it.
func (h held) Close() error {
	return errors.Join(unix.Flock(int(h.Fd()), unix.LOCK_UN), h.File.Close())
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

// BeginWrite starts writeback of a part of a file without waiting. It makes nothing
// durable; Sync does that, and reports errors.
func BeginWrite(f File, off, n int64) error {
	return hint(f, func(fd int) { _ = unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE) })
}

// DropCache makes the next reads of a file come from the disk. Pages that are not written back
// yet stay; those whose writing failed count as written (fsync(2)).
func DropCache(f File) error {
	return hint(f, func(fd int) { _ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}

func hint(f File, give func(fd int)) error {
	o, ok := f.(*os.File)
	if !ok {
		return nil
	}
	raw, err := o.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { give(int(fd)) })
}
