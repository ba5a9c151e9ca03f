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

// heldFor is how long a held folder is used before it is looked at again: a folder that
// was moved away or mounted over is noticed after that.
const heldFor = time.Second

// Held is OS with some folders held open. A name in one of them costs one system call,
// where OS resolves the whole path and closes it again. It is for a service that works
// in few folders for as long as it lives.
type Held struct {
	OS
	folders map[string]*heldFolder // by path with a slash at its end
}

type heldFolder struct {
	mu   sync.Mutex
	at   *os.File // nil: it could not be opened
	seen time.Time
}

var (
	_ FS     = (*Held)(nil)
	_ Owners = (*Held)(nil)
	_ Space  = (*Held)(nil)
	_ Attrs  = (*Held)(nil)
)

// Hold returns OS with folders held, from their first use on; none need exist yet.
func Hold(folders ...string) *Held {
	h := &Held{folders: map[string]*heldFolder{}}
	for _, f := range folders {
		h.folders[filepath.Clean(f)+"/"] = &heldFolder{}
	}
	return h
}

// folder returns an open folder, nil if it is none of the held ones or cannot be opened.
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
		_ = now.Close() // only looked at
		return f.at
	}
	// The one before may be in use: it is closed when it is no longer reachable.
	f.at = now
	return f.at
}

func sameFolder(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && SameFile(x, y)
}

// in runs a call with the descriptor of the held folder of a name, and returns
// errElsewhere where there is none.
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

// errElsewhere tells that OS has to resolve the path.
var errElsewhere = errors.New("not by a held folder")

// Lstat describes a name.
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

// Stat describes what a name leads to.
func (h *Held) Stat(name string) (fs.FileInfo, error) {
	if fi, err := h.Lstat(name); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return fi, err
	}
	return h.OS.Stat(name)
}

// OpenFile opens a regular file. One that is made anew needs no other look; all others
// are opened by their path.
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

// Link links a name in a held folder to another.
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

// Remove removes a name, or an empty folder.
func (h *Held) Remove(name string) error {
	err := h.in("remove", name, unlink)
	if errors.Is(err, errElsewhere) {
		return h.OS.Remove(name)
	}
	return err
}

// Free returns what is left to those who are not root.
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
