package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLink means that a symlink is not followed, because a user other than root or this one
// made it or could have put it there.
var ErrLink = errors.New("a symlink that another user could have made; use its target's path")

// ErrNotRegular means that a name is a folder, a pipe, a socket or a device.
var ErrNotRegular = errors.New("not a regular file")

// maxLinks bounds the symlinks on the way to a name, like path_resolution(7).
const maxLinks = 40

// openPath opens a name for this package; flags and mode are those of open(2).
//
// Whoever can write to a folder of the path can swap its entries at any moment, so a check
// before use does not help. openat2(2) rejects symlinks atomically; every folder of the
// path is then a real one, and a user who could move it owns its content anyway. Only if there
// is a symlink, openPath walks the path folder by folder, and follows a symlink that only
// root or this user can have put there. So an administrator may link /var elsewhere, but a
// service cannot link its own folder to one of root's.
func openPath(name string, flags int, mode uint32) (int, error) {
	if name == "" {
		return -1, unix.ENOENT
	}
	if flags&unix.O_CREAT == 0 {
		mode = 0
	}
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(unix.AT_FDCWD, name, how) })
	switch {
	case err == nil:
		return fd, nil
	// A seccomp filter that does not know openat2 also returns EPERM.
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		w := &walk{uid: os.Geteuid(), gid: os.Getegid()}
		defer w.close()
		return w.open(filepath.Clean(name), flags|unix.O_CLOEXEC, mode)
	default:
		return -1, err
	}
}

// walk resolves a path, one folder at a time. systemd's RestrictSUIDSGID= rejects openat2, so
// each service walks each path.
type walk struct {
	uid, gid int // of this process
	dir      int // the current folder
	// ours means that only root and this user could have changed the path to this folder,
	// or its entries.
	ours  bool
	links int
}

func (w *walk) close() { _ = unix.Close(w.dir) }

func (w *walk) start(at string) error {
	w.dir, w.ours = -1, true
	fd, err := openat(unix.AT_FDCWD, at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	w.enter(fd, &st)
	return nil
}

// enter moves to a folder and takes ownership of its descriptor.
func (w *walk) enter(fd int, st *unix.Stat_t) {
	if w.dir >= 0 {
		_ = unix.Close(w.dir)
	}
	w.dir, w.ours = fd, w.ours && w.guarded(st)
}

func (w *walk) open(name string, flags int, mode uint32) (int, error) {
	top := "."
	if filepath.IsAbs(name) {
		top = "/"
	}
	if err := w.start(top); err != nil {
		return -1, err
	}
	parts := split(name)
	for {
		if len(parts) == 0 {
			parts = []string{"."}
		}
		part, last := parts[0], len(parts) == 1
		itself := flags&(unix.O_NOFOLLOW|unix.O_EXCL) != 0
		var failed error
		if last && (itself || flags&unix.O_PATH == 0) {
			fd, err := openat(w.dir, part, flags|unix.O_NOFOLLOW, mode)
			if itself || !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
				return fd, err
			}
			failed = err // by a symlink, perhaps
		}
		fd, st, target, err := w.step(part)
		switch {
		case err != nil:
			return -1, err
		case target != "":
			if err := w.follow(target); err != nil {
				return -1, fmt.Errorf("%q is %w", part, err)
			}
			parts = append(split(target), parts[1:]...)
			continue
		case failed == nil && (!last || flags&unix.O_DIRECTORY != 0) && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			failed = unix.ENOTDIR
		}
		if failed != nil {
			_ = unix.Close(fd)
			return -1, failed
		}
		if last {
			return fd, nil
		}
		w.enter(fd, &st)
		parts = parts[1:]
	}
}

// step opens a name in the current folder. It returns a symlink's target instead. A symlink
// of another user makes the walk untrusted.
func (w *walk) step(name string) (fd int, st unix.Stat_t, target string, err error) {
	if fd, err = openat(w.dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return -1, st, "", err
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return fd, st, "", nil
	}
	if err == nil {
		target, err = readlink(fd)
		w.ours = w.ours && w.trusted(st.Uid)
	}
	return -1, st, target, errors.Join(err, unix.Close(fd))
}

// follow moves to the folder that a symlink's target begins at.
func (w *walk) follow(target string) error {
	if w.links++; !w.ours {
		return ErrLink
	} else if w.links > maxLinks {
		return fmt.Errorf("one symlink too many: %w", unix.ELOOP)
	}
	if !filepath.IsAbs(target) {
		return nil
	}
	w.close()
	return w.start("/")
}

// guarded reports whether only root and this user can change a folder's entries; in a
// sticky folder only their owners can. A group-writable folder is guarded only if user and
// group are this process's own, because otherwise the bit may be the mask of an access
// control list.
func (w *walk) guarded(st *unix.Stat_t) bool {
	own := w.uid != 0 && int(st.Uid) == w.uid && int(st.Gid) == w.gid
	others := st.Mode&unix.S_IWOTH != 0 || st.Mode&unix.S_IWGRP != 0 && !own
	return w.trusted(st.Uid) && (!others || st.Mode&unix.S_ISVTX != 0)
}

func (w *walk) trusted(uid uint32) bool { return uid == 0 || int(uid) == w.uid }

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	return retry(func() (int, error) { return unix.Openat(dir, name, flags, mode) })
}

// split returns the parts of a path. It keeps "..", which openat(2) resolves.
func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}

// readlink returns the target of an open symlink.
func readlink(fd int) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	return string(b[:max(n, 0)]), err
}

// retry repeats a call that a signal interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

// within runs a call with the descriptor of the folder that contains a name.
func within(op, name string, call func(dir int, base string) error) error {
	dir, base := splitLast(name)
	if base == "" || base == "." || base == ".." {
		return &fs.PathError{Op: op, Path: name, Err: unix.EINVAL}
	}
	err := opened(op, dir, unix.O_PATH|unix.O_DIRECTORY, func(fd int) error { return call(fd, base) })
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		p.Path = name
	}
	return err
}

// splitLast splits a name into its folder and last part. It cleans only names that need it,
// because most come from filepath.Join.
func splitLast(name string) (dir, base string) {
	if dir, base = filepath.Split(name); base == "" || base == "." || base == ".." {
		dir, base = filepath.Split(filepath.Clean(name))
	}
	if dir == "" {
		dir = "."
	}
	return dir, base
}

// opened runs a call with the descriptor of a name.
func opened(op, name string, flags int, call func(fd int) error) error {
	fd, err := openPath(name, flags, 0)
	if err == nil {
		_, err = retry(func() (int, error) { return 0, call(fd) })
		_ = unix.Close(fd)
	}
	return wrap(op, name, err)
}

// within2 is within for two names.
func within2(op, oldname, newname string, call func(olddir int, oldbase string, newdir int, newbase string) error) error {
	err := within(op, oldname, func(olddir int, oldbase string) error {
		from, _ := splitLast(oldname)
		if to, base := splitLast(newname); to == from {
			return call(olddir, oldbase, olddir, base)
		}
		return within(op, newname, func(newdir int, newbase string) error { return call(olddir, oldbase, newdir, newbase) })
	})
	return linkError(op, oldname, newname, err)
}

func linkError(op, oldname, newname string, err error) error {
	if err == nil {
		return nil
	}
	for p, ok := errors.AsType[*fs.PathError](err); ok; p, ok = errors.AsType[*fs.PathError](err) {
		err = p.Err
	}
	return &os.LinkError{Op: op, Old: oldname, New: newname, Err: err}
}

func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
