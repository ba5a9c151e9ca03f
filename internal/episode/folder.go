package episode

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"

	"cis490/internal/disk"
)

// Folder returns an episode's directory for reading. It follows no link, opens only regular
// files, never blocks on one, and lists at most MaxFiles names.
func Folder(fsys disk.FS, dir string) fs.FS { return folder{fsys, dir} }

type folder struct {
	fsys disk.FS
	dir  string
}

var errNotRegular = errors.New("is not a regular file")

var _ fs.ReadDirFS = folder{}

// Open opens a regular file.
func (f folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	file, err := f.fsys.OpenFile(path.Join(f.dir, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	if err != nil {
		_ = file.Close() // only read
		return nil, err
	}
	return file, nil
}

// ReadDir lists a directory.
func (f folder) ReadDir(name string) ([]fs.DirEntry, error) {
	return disk.ReadDirN(f.fsys, path.Join(f.dir, name), MaxFiles)
}
