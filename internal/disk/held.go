package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// heldFor is how long a held folder is used before it is checked again. A folder that was
// moved or mounted over is noticed after that.
const heldFor = time.Second

// Held is OS with some folders held open. An operation on a name in such a folder needs one
// system call, while OS resolves the whole path. It is for a service that works in a few
// folders for its whole life.
type Held struct {
	OS
	folders map[string]*heldFolder // by path with a slash at its end
}

type heldFolder struct {
	mu   sync.Mutex
	at   *os.File // nil: not open
	seen time.Time
}

var (
	_ FS     = (*Held)(nil)
	_ Owners = (*Held)(nil)
	_ Space  = (*Held)(nil)
	_ Attrs  = (*Held)(nil)
)

// Hold returns an OS that holds the given folders open from their first use. They need not
// exist yet.
func Hold(folders ...string) *Held {
	h := &Held{folders: map[string]*heldFolder{}}
	for _, f := range folders {
		h.folders[filepath.Clean(f)+"/"] = &heldFolder{}
	}
	return h
}

// folder returns an open folder, or nil if the path is not held or cannot be opened.
func (h *Held) folder(path string) *os.File {
	f := h.folders[path]
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at != nil && time.Since(f.seen) < heldFor {
		return f.at
	}
	fd, err := openPath(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		f.at = nil
		return nil
	}
	now := os.NewFile(uintptr(fd), path)
	f.seen = time.Now()
	if f.at != nil && sameFolder(f.at, now) {
		_ = now.Close() // same folder
		return f.at
	}
	// The previous file may be in use; the garbage collector closes it.
	f.at = now
	return f.at
}

func sameFolder(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && SameFile(x, y)
}

// in runs a call with the descriptor of the held folder that contains a name. It returns
// errElsewhere if there is none.
func (h *Held) in(op, name string, call func(dir int, base string) error) error {
	dir, base := splitLast(name)
	f := h.folder(dir)
	if f == nil || base == "" || base == "." || base == ".." {
		return errElsewhere
	}
	_, err := retry(func() (int, error) { return 0, call(int(f.Fd()), base) })
	runtime.KeepAlive(f)
	return wrap(op, name, err)
}

// errElsewhere means that OS must resolve the path.
var errElsewhere = errors.New("not in a held folder")

// Lstat returns a name's FileInfo.
func (h *Held) Lstat(name string) (fs.FileInfo, error) {
	var st unix.Stat_t
	err := h.in("lstat", name, func(dir int, base string) error { return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, errElsewhere):
		return h.OS.Lstat(name)
	case err != nil:
		return nil, err
	}
	return infoOf(filepath.Base(name), &st), nil
}

// Stat returns the FileInfo of a name, following symlinks.
func (h *Held) Stat(name string) (fs.FileInfo, error) {
	if fi, err := h.Lstat(name); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return fi, err
	}
	return h.OS.Stat(name)
}

// OpenFile opens a regular file. It creates a file (O_EXCL) in the held folder; all other
// files are opened by path.
func (h *Held) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if flag&os.O_EXCL == 0 {
		return h.OS.OpenFile(name, flag, perm)
	}
	var fd int
	err := h.in("open", name, func(dir int, base string) (err error) {
		fd, err = unix.Openat(dir, base, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm.Perm()))
		return err
	})
	switch {
	case errors.Is(err, errElsewhere):
		return h.OS.OpenFile(name, flag, perm)
	case err != nil:
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Link makes a hard link from a name in a held folder.
func (h *Held) Link(oldname, newname string) error {
	err := h.in("link", oldname, func(olddir int, oldbase string) error {
		return within("link", newname, func(newdir int, newbase string) error {
			return unix.Linkat(olddir, oldbase, newdir, newbase, 0)
		})
	})
	if errors.Is(err, errElsewhere) {
		return h.OS.Link(oldname, newname)
	}
	return linkError("link", oldname, newname, err)
}

// Remove removes a name or an empty folder.
func (h *Held) Remove(name string) error {
	err := h.in("remove", name, unlink)
	if errors.Is(err, errElsewhere) {
		return h.OS.Remove(name)
	}
	return err
}

// Free returns the bytes available to users other than root.
func (h *Held) Free(name string) (int64, error) {
	var st unix.Statfs_t
	f := h.folder(filepath.Clean(name) + "/")
	if f == nil {
		return h.OS.Free(name)
	}
	err := unix.Fstatfs(int(f.Fd()), &st)
	runtime.KeepAlive(f)
	return available(&st), wrap("statfs", name, err)
}
