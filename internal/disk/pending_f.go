package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// This file goes when the package has these itself: they are the same by name, but
// not yet safe where others can write.

// ErrNotRegular reports a name that is not a regular file.
var ErrNotRegular = errors.New("not a regular file")

// ErrLink reports a symlink that another user could have made.
var ErrLink = errors.New("a symlink that another user could have made")

// Chown gives a name to a user and a group.
func Chown(_ FS, name string, uid, gid int) error { return os.Lchown(name, uid, gid) }

// Chmod sets the mode of a name.
func Chmod(_ FS, name string, mode fs.FileMode) error { return os.Chmod(name, mode) }

// Stat describes what a name leads to.
func Stat(_ FS, name string) (fs.FileInfo, error) { return os.Stat(name) }

// RemoveAll removes a name and all below it.
func RemoveAll(_ FS, name string) error { return os.RemoveAll(name) }

// Real returns the path that a name leads to, without symlinks.
func (OS) Real(name string) (string, error) { return filepath.EvalSymlinks(name) }

// Walk visits a name and all below it, folders before what is in them, by name.
func Walk(_ FS, name string, visit func(path string, fi fs.FileInfo) error) error {
	return filepath.WalkDir(name, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		return visit(path, fi)
	})
}
