package disk

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Facts holds file metadata that fs.FileInfo lacks. An FS other than OS provides it by a
// method Facts on FileInfo.Sys.
type Facts struct {
	Owner   int // user id
	Links   int // hard links
	Changed time.Time
	Disk    uint64 // the file system's number, st_dev
}

// SameDisk reports whether two files are on one file system. It may report false although
// they are, as on two subvolumes of Btrfs.
func SameDisk(a, b fs.FileInfo) bool {
	x, ok := factsOf(a)
	y, ok2 := factsOf(b)
	return ok && ok2 && x.Disk == y.Disk
}

// Owner returns the user id of a file's owner; ok is false if unknown.
func Owner(fi fs.FileInfo) (uid int, ok bool) {
	f, ok := factsOf(fi)
	return f.Owner, ok
}

// LinkCount returns a file's number of hard links, 1 if unknown.
func LinkCount(fi fs.FileInfo) int {
	if f, ok := factsOf(fi); ok {
		return f.Links
	}
	return 1
}

// Changed returns when a file's content, mode or links last changed. Unlike the
// modification time, its owner cannot set it.
func Changed(fi fs.FileInfo) time.Time {
	if f, ok := factsOf(fi); ok {
		return f.Changed
	}
	return fi.ModTime()
}

func factsOf(fi fs.FileInfo) (Facts, bool) {
	switch sys := fi.Sys().(type) {
	case *syscall.Stat_t:
		return Facts{int(sys.Uid), int(sys.Nlink), time.Unix(sys.Ctim.Unix()), uint64(sys.Dev)}, true
	case interface{ Facts(fs.FileInfo) Facts }:
		return sys.Facts(fi), true
	}
	return Facts{}, false
}

// Lister is implemented by a file system that can list a part of a folder.
type Lister interface {
	ReadDirN(name string, n int) ([]fs.DirEntry, error)
}

// ReadDirN lists at most n entries of a folder, sorted by name, at the cost of n entries.
// Of a larger folder it lists arbitrary ones.
func ReadDirN(fsys FS, name string, n int) ([]fs.DirEntry, error) {
	l, ok := fsys.(Lister)
	if !ok {
		all, err := fsys.ReadDir(name)
		return all[:min(n, len(all))], err
	}
	entries, err := l.ReadDirN(name, n)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

var _ Lister = OS{}

// ReadDirN lists at most n entries of a folder, unsorted.
func (o OS) ReadDirN(name string, n int) ([]fs.DirEntry, error) {
	d, err := o.OpenFolder(name)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	for i, e := range entries {
		entries[i] = entry{e, name}
	}
	return entries, errors.Join(err, d.Close())
}
