package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// OS is the machine's file system, safe for a process with more rights than the owners of
// the folders it works in. It follows only trusted symlinks (see openPath), never blocks on
// a pipe, opens only regular files, and rejects a hard link to another owner's file.
type OS struct{}

var _ FS = OS{}

// OpenFile opens or creates a regular file like open(2). For anything else it returns an
// error that wraps ErrNotRegular, without blocking.
func (o OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := o.open(name, flag, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File in an interface is not nil
	}
	return f, nil
}

// Open opens a regular file for reading.
func (o OS) Open(name string) (*os.File, error) { return o.open(name, os.O_RDONLY, 0) }

func (OS) open(name string, flag int, perm fs.FileMode) (*os.File, error) {
	flags := flag &^ unix.O_TRUNC // only after the type is checked
	if flag&unix.O_EXCL == 0 {
		flags |= unix.O_NONBLOCK | unix.O_NOCTTY
	}
	fd, err := openPath(name, flags, uint32(perm.Perm()))
	if errors.Is(err, unix.ENXIO) { // a socket, or a pipe without a reader
		err = ErrNotRegular
	}
	if err == nil && flag&unix.O_EXCL == 0 {
		if err = usable(fd, name); err == nil && flag&unix.O_TRUNC != 0 {
			err = unix.Ftruncate(fd, 0)
		}
		if err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return nil, wrap("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// usable rejects anything but a regular file, and a file with several names whose owner
// differs from its folder's, because a hard link can bring a file to where its owner did
// not put it.
func usable(fd int, name string) error {
	var st, dir unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return fmt.Errorf("%w (%w)", ErrNotRegular, unix.EISDIR)
	default:
		return ErrNotRegular
	}
	if st.Nlink <= 1 {
		return nil
	}
	err := within("stat", name, func(at int, _ string) error { return unix.Fstat(at, &dir) })
	if err == nil && dir.Uid != st.Uid {
		err = fmt.Errorf("%w: a hard link to another user's", ErrNotRegular)
	}
	return err
}

// Rename is rename(2).
func (OS) Rename(oldname, newname string) error {
	return within2("rename", oldname, newname, unix.Renameat)
}

// Link is link(2).
func (OS) Link(oldname, newname string) error {
	return unsupported(within2("link", oldname, newname, func(olddir int, oldbase string, newdir int, newbase string) error {
		return unix.Linkat(olddir, oldbase, newdir, newbase, 0)
	}))
}

// Remove removes a name or an empty folder.
func (OS) Remove(name string) error {
	return within("remove", name, unlink)
}

func unlink(dir int, base string) error {
	err := unix.Unlinkat(dir, base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		if folder := unix.Unlinkat(dir, base, unix.AT_REMOVEDIR); !errors.Is(folder, unix.ENOTDIR) {
			return folder
		}
	}
	return err
}

// Mkdir makes a folder with the mode perm, whatever the umask is.
func (o OS) Mkdir(name string, perm fs.FileMode) error {
	err := within("mkdir", name, func(dir int, base string) error { return unix.Mkdirat(dir, base, uint32(perm.Perm())) })
	if err != nil {
		return err
	}
	// Only if the umask removed bits: in a setgid folder, chmod(2) by a user outside the
	// group clears the setgid bit.
	if fi, err := o.Lstat(name); err != nil || fi.Mode().Perm() == perm.Perm() {
		return err
	}
	return o.Chmod(name, perm.Perm())
}

// OpenFolder opens a folder.
func (OS) OpenFolder(name string) (*os.File, error) {
	fd, err := openPath(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, wrap("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// OpenSocket opens a Unix socket, without connecting, so that connect(2) can use its
// descriptor's name.
func (OS) OpenSocket(name string) (*os.File, error) {
	fd, err := openPath(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, wrap("open", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if fi, err := f.Stat(); err != nil || fi.Mode().Type() != fs.ModeSocket {
		return nil, errors.Join(wrap("open", name, errors.New("not a socket")), err, f.Close())
	}
	return f, nil
}

// ReadDir lists a folder, sorted by name.
func (o OS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := o.OpenFolder(name)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	err = errors.Join(err, d.Close())
	for i, e := range entries {
		entries[i] = entry{e, name}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// entry is a name in a folder. Package os would resolve its path again for Info.
type entry struct {
	fs.DirEntry
	dir string
}

// Info returns the FileInfo of the name, like Lstat.
func (e entry) Info() (fs.FileInfo, error) { return OS{}.Lstat(filepath.Join(e.dir, e.Name())) }

// Lstat returns a name's FileInfo; it does not follow a symlink.
func (OS) Lstat(name string) (fs.FileInfo, error) { return describe("lstat", name, unix.O_NOFOLLOW) }

// Stat returns the FileInfo of a name, following symlinks.
func (OS) Stat(name string) (fs.FileInfo, error) { return describe("stat", name, 0) }

// SyncDir makes the names in a folder durable.
func (o OS) SyncDir(name string) error {
	d, err := o.OpenFolder(name)
	if err != nil {
		return err
	}
	return errors.Join(unsupported(d.Sync()), d.Close())
}

// OpenFlush prepares syncfs(2), which since Linux 5.8 reports every failed write since the
// descriptor was opened or last reported one.
func (o OS) OpenFlush(dir string) (Flusher, error) {
	d, err := o.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	return &flusher{dir, d}, nil
}

type flusher struct {
	dir string
	d   *os.File
}

// Flush fails once if another file system was mounted at the folder.
func (f *flusher) Flush() error {
	now, err := OS{}.Stat(f.dir)
	if err != nil {
		return err
	}
	if was, err := f.d.Stat(); err != nil || !SameFile(was, now) {
		d, opening := OS{}.OpenFolder(f.dir)
		if opening != nil {
			return opening
		}
		err = errors.Join(fmt.Errorf("%s was replaced by another folder", f.dir), err, f.d.Close())
		f.d = d
		return err
	}
	//off:11_PowerCutReceiver
	return unsupported(wrap("syncfs", f.dir, unix.Syncfs(int(f.d.Fd()))))
}

// Close closes the descriptor.
func (f *flusher) Close() error { return f.d.Close() }
