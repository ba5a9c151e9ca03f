package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Owners is what a file system offers whose names have owners and rights.
type Owners interface {
	// Chown and Chmod act on what a name is at one moment: a regular file of one
	// name, a folder or a socket, never a symlink or what it leads to.
	Chown(name string, uid, gid int) error
	Chmod(name string, mode fs.FileMode) error
	// Stat describes what a name leads to.
	Stat(name string) (fs.FileInfo, error)
}

var _ Owners = OS{}

// Chown gives a name to a user and a group.
func (OS) Chown(name string, uid, gid int) error {
	return opened("chown", name, unix.O_PATH|unix.O_NOFOLLOW, func(fd int) error {
		if err := single(fd); err != nil {
			return err
		}
		return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
	})
}

// Chmod sets a name's mode.
func (OS) Chmod(name string, mode fs.FileMode) error {
	return opened("chmod", name, unix.O_PATH|unix.O_NOFOLLOW, func(fd int) error {
		if err := single(fd); err != nil {
			return err
		}
		err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode) // fchmod(2) takes no O_PATH descriptor
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = p.Err
		}
		return err
	})
}

// single refuses what has other names, or is none of the kinds that have owners of ours.
func single(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR, (kind == unix.S_IFREG || kind == unix.S_IFSOCK) && st.Nlink == 1:
		return nil
	case kind == unix.S_IFREG:
		return fmt.Errorf("%w: it has other names (hard links)", ErrNotRegular)
	default:
		return ErrNotRegular
	}
}

// Chown gives a name on fsys to a user and a group.
func Chown(fsys FS, name string, uid, gid int) error {
	o, ok := fsys.(Owners)
	if !ok {
		return wrap("chown", name, errors.ErrUnsupported)
	}
	return o.Chown(name, uid, gid)
}

// Chmod sets the mode of a name on fsys.
func Chmod(fsys FS, name string, mode fs.FileMode) error {
	o, ok := fsys.(Owners)
	if !ok {
		return wrap("chmod", name, errors.ErrUnsupported)
	}
	return o.Chmod(name, mode)
}

// Stat describes what a name on fsys leads to.
func Stat(fsys FS, name string) (fs.FileInfo, error) {
	if o, ok := fsys.(Owners); ok {
		return o.Stat(name)
	}
	return fsys.Lstat(name)
}

// Walk visits a name and all below it, folders before what is in them, by name. It
// follows no symlink: one is visited as what it is. A visit that returns
// fs.SkipDir passes a folder over; any other error ends the walk.
func Walk(fsys FS, name string, visit func(path string, fi fs.FileInfo) error) error {
	fi, err := fsys.Lstat(name)
	if err == nil {
		err = visit(name, fi)
	}
	if err != nil || !fi.IsDir() {
		if errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	entries, err := fsys.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// What is gone since it was listed is not there to be visited.
		if err := Walk(fsys, filepath.Join(name, e.Name()), visit); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// RemoveAll removes a name and all below it, following nothing. What is gone
// already is not missed.
func RemoveAll(fsys FS, name string) error {
	if t, ok := fsys.(interface{ RemoveAll(name string) error }); ok {
		return t.RemoveAll(name)
	}
	err := fsys.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, listing := fsys.ReadDir(name)
	if listing != nil {
		return err
	}
	for _, e := range entries {
		if err := RemoveAll(fsys, filepath.Join(name, e.Name())); err != nil {
			return err
		}
	}
	if err := fsys.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveAll removes a tree of any depth by descriptors (os.Root.RemoveAll).
func (OS) RemoveAll(name string) error {
	return within("remove", name, func(dir int, base string) error {
		root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir))
		if err != nil {
			return err
		}
		return errors.Join(root.RemoveAll(base), root.Close())
	})
}

// Real returns the path that a name leads to, without symlinks.
func (OS) Real(name string) (real string, err error) {
	err = opened("resolve", name, unix.O_PATH, func(fd int) error {
		real, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		return err
	})
	return real, err
}
