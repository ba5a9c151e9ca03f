package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Owners is implemented by a file system with owners and modes.
type Owners interface {
	// Chown and Chmod act on a regular file with one name, a folder or a socket, never on a
	// symlink or its target.
	Chown(name string, uid, gid int) error
	Chmod(name string, mode fs.FileMode) error
	// Stat returns the FileInfo of a name, following symlinks.
	Stat(name string) (fs.FileInfo, error)
}

var _ Owners = OS{}

// Chown sets the owner and group of a name.
func (OS) Chown(name string, uid, gid int) error {
	return opened("chown", name, unix.O_PATH|unix.O_NOFOLLOW, func(fd int) error {
		if err := single(fd); err != nil {
			return err
		}
		return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
	})
}

// Chmod sets the mode of a name.
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

// single rejects a file with several names, and types other than regular files, folders and
// sockets.
func single(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR, (kind == unix.S_IFREG || kind == unix.S_IFSOCK) && st.Nlink == 1:
		return nil
	case kind == unix.S_IFREG:
		return fmt.Errorf("%w: it has several names (hard links)", ErrNotRegular)
	default:
		return ErrNotRegular
	}
}

// Chown sets the owner and group of a name on fsys.
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

// Stat returns the FileInfo of a name on fsys, following symlinks.
func Stat(fsys FS, name string) (fs.FileInfo, error) {
	if o, ok := fsys.(Owners); ok {
		return o.Stat(name)
	}
	return fsys.Lstat(name)
}

// Real returns the path of a name on fsys without symlinks.
func Real(fsys FS, name string) (string, error) {
	if r, ok := fsys.(interface {
		Real(name string) (string, error)
	}); ok {
		return r.Real(name)
	}
	return OS{}.Real(name)
}

// Walk visits a name and everything below it, folders before their entries, sorted by name.
// It follows no symlinks. A visit that returns fs.SkipDir skips a folder; any other error
// ends the walk.
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
		// Skip entries that were removed meanwhile.
		if err := Walk(fsys, filepath.Join(name, e.Name()), visit); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// RemoveAll removes a name and everything below it without following symlinks. A missing
// name is not an error.
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

// RemoveAll removes a tree of any depth, by descriptors (os.Root.RemoveAll).
func (OS) RemoveAll(name string) error {
	return within("remove", name, func(dir int, base string) error {
		root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir))
		if err != nil {
			return err
		}
		return errors.Join(root.RemoveAll(base), root.Close())
	})
}

// Real returns the path of a name with all symlinks resolved.
func (OS) Real(name string) (real string, err error) {
	err = opened("resolve", name, unix.O_PATH, func(fd int) error {
		real, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		return err
	})
	return real, err
}
