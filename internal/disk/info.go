package disk

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// info is the FileInfo of a descriptor, without the cost of an os.File. Like package os,
// Sys returns a *syscall.Stat_t.
type info struct {
	name string
	st   syscall.Stat_t
}

func describe(op, name string, flag int) (fs.FileInfo, error) {
	i := &info{name: filepath.Base(name)}
	err := opened(op, name, unix.O_PATH|flag, func(fd int) error { return syscall.Fstat(fd, &i.st) })
	if err != nil {
		return nil, err
	}
	return i, nil
}

// infoOf converts the result of fstatat(2).
func infoOf(name string, st *unix.Stat_t) *info {
	return &info{name, syscall.Stat_t{
		Dev: st.Dev, Ino: st.Ino, Nlink: st.Nlink, Mode: st.Mode, Uid: st.Uid, Gid: st.Gid, Rdev: st.Rdev,
		Size: st.Size, Blksize: st.Blksize, Blocks: st.Blocks,
		Atim: syscall.Timespec(st.Atim), Mtim: syscall.Timespec(st.Mtim), Ctim: syscall.Timespec(st.Ctim),
	}}
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.st.Size }
func (i *info) ModTime() time.Time { return time.Unix(i.st.Mtim.Unix()) }
func (i *info) IsDir() bool        { return i.Mode().IsDir() }
func (i *info) Sys() any           { return &i.st }

// Mode converts st_mode.
func (i *info) Mode() fs.FileMode {
	mode := fs.FileMode(i.st.Mode & 0o777)
	switch i.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	}
	if i.st.Mode&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if i.st.Mode&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if i.st.Mode&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// SameFile reports whether two FileInfos describe the same file, on any FS.
func SameFile(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	if ok && ok2 {
		return x.Dev == y.Dev && x.Ino == y.Ino
	}
	return os.SameFile(a, b) || (a.Sys() != nil && a.Sys() == b.Sys())
}
