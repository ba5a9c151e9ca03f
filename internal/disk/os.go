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

// OS is the machine's file system, as one who has more rights than others may use
// it: see openPath for which symlinks are followed. It waits for no pipe, opens
// nothing but regular files, and not one that a hard link brought into another
// owner's folder.
type OS struct{}

var _ FS = OS{}

// OpenFile opens a regular file, or makes one, as open(2) does. Anything else is
// an error that wraps ErrNotRegular, without waiting for it.
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
	flags := flag &^ unix.O_TRUNC // not before it is known what the file is
	if flag&unix.O_EXCL == 0 {
		flags |= unix.O_NONBLOCK | unix.O_NOCTTY
	}
	fd, err := openPath(name, flags, uint32(perm.Perm()))
	if errors.Is(err, unix.ENXIO) { // a socket, or a pipe that nobody reads
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

// usable refuses what is not a regular file, and a file of several names whose
// owner is not its folder's: a hard link (link(2)) brings a file to where its
// owner never put it.
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

// Rename renames as rename(2) does.
func (OS) Rename(oldname, newname string) error {
	return within2("rename", oldname, newname, unix.Renameat)
}

// Link links as link(2) does.
func (OS) Link(oldname, newname string) error {
	return unsupported(within2("link", oldname, newname, func(olddir int, oldbase string, newdir int, newbase string) error {
		return unix.Linkat(olddir, oldbase, newdir, newbase, 0)
	}))
}

// Remove removes a name, or an empty folder.
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

// Mkdir makes a folder, whose rights are perm whatever the umask.
func (o OS) Mkdir(name string, perm fs.FileMode) error {
	err := within("mkdir", name, func(dir int, base string) error { return unix.Mkdirat(dir, base, uint32(perm.Perm())) })
	if err != nil {
		return err
	}
	// Only where the umask took something: in a setgid folder, chmod(2) by a user who is
	// not of the group takes the bit away.
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

// OpenSocket opens a Unix socket as a name that connect(2) takes, without
// connecting to it.
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

// entry is a name in a folder. Package os would look at it by its path.
type entry struct {
	fs.DirEntry
	dir string
}

// Info describes the name as Lstat does.
func (e entry) Info() (fs.FileInfo, error) { return OS{}.Lstat(filepath.Join(e.dir, e.Name())) }

// Lstat describes a name, and does not follow it if it is a symlink.
func (OS) Lstat(name string) (fs.FileInfo, error) { return describe("lstat", name, unix.O_NOFOLLOW) }

// Stat describes what a name leads to.
func (OS) Stat(name string) (fs.FileInfo, error) { return describe("stat", name, 0) }

// SyncDir makes the names in a folder durable.
func (o OS) SyncDir(name string) error {
	d, err := o.OpenFolder(name)
	if err != nil {
		return err
	}
	return errors.Join(unsupported(d.Sync()), d.Close())
}

// OpenFlush prepares syncfs(2), which since Linux 5.8 reports every failed write
// since its descriptor was opened or reported last.
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

// Flush fails once if another file system was mounted at the folder meanwhile.
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
		err = errors.Join(fmt.Errorf("%s is another folder than before", f.dir), err, f.d.Close())
		f.d = d
		return err
	}
	return unsupported(wrap("syncfs", f.dir, unix.Syncfs(int(f.d.Fd()))))
}

// Close gives the descriptor back.
func (f *flusher) Close() error { return f.d.Close() }
