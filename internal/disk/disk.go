// Package disk makes all changes to files whose loss would matter, so that "durable" means
// the same everywhere and tests can fail any single step.
//
// FS is the interface. OS is the machine's file system; package faultdisk is a disk in
// memory that fails, writes short or loses power at a chosen call. After a crash, Replace
// has left the old content or the new, never a mixture; Publish has overwritten nothing;
// and everything for which a function returned nil survives a power cut.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File is the part of *os.File that the program uses.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Stat() (fs.FileInfo, error)
	// Sync makes content and size durable. After an error, everything written since the
	// last success may be lost, even if a later Sync succeeds, because the kernel marks
	// failed pages clean.
	Sync() error
	Truncate(size int64) error
}

// FS is a file system; names are paths as for package os.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(oldname, newname string) error
	// Link fails with fs.ErrExist if newname exists.
	Link(oldname, newname string) error
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Lstat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// OpenFlush prepares flushes of the file system that contains a folder.
	OpenFlush(dir string) (Flusher, error)
}

// Flusher makes many files durable at once. It is not safe for concurrent use.
type Flusher interface {
	// Flush makes everything durable that was written to the file system before: content,
	// attributes and names, of other programs too. After an error, everything written since
	// the last success may be lost, even if a later Flush succeeds.
	Flush() error
	Close() error
}

// Partial is the suffix of a file that is still being written. Start-up sweeps remove such
// files.
const Partial = ".partial"

// Replace writes a whole file: after a crash it has the old content or the new, and after a
// nil return the new content is durable. It writes to path+".partial" first; callers make
// sure that only one process at a time writes a path.
func Replace(fsys FS, path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	tmp := path + Partial
	if err := WriteSync(fsys, tmp, perm, write); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("rename %s into place: %w", path, err), fsys.Remove(tmp))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make %s durable: %w", path, err)
	}
	return nil
}

// ReplaceBytes is Replace with the given content.
func ReplaceBytes(fsys FS, path string, perm fs.FileMode, content []byte) error {
	return Replace(fsys, path, perm, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// WriteSync creates a file, or replaces an abandoned one, and makes its content durable,
// but not its name. On an error it removes the file. The file gets perm whatever the umask
// is.
func WriteSync(fsys FS, path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	// An abandoned file may have other permissions or another owner.
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove abandoned file: %w", err)
	}
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = fsys.Remove(path) // the first error matters
		}
	}()
	if o, ok := f.(*os.File); ok {
		if err := o.Chmod(perm); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("make %s durable: %w", path, err), f.Close())
	}
	return f.Close()
}

// MkdirAll makes a folder and its parents durably. Existing folders are not errors.
func MkdirAll(fsys FS, path string, perm fs.FileMode) error {
	fi, err := Stat(fsys, path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		if parent := filepath.Dir(path); parent != path {
			if err := MkdirAll(fsys, parent, perm); err != nil {
				return err
			}
		}
		if err := fsys.Mkdir(path, perm); err == nil {
			return fsys.SyncDir(filepath.Dir(path))
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
		fi, err = Stat(fsys, path) // made concurrently, or a dangling link
	}
	if err == nil && !fi.IsDir() {
		err = wrap("mkdir", path, errors.New("exists and is not a directory"))
	}
	return err
}

// Small bounds the size of files that people and their tools write (configs, certificates,
// keys, tokens), in bytes.
const Small = 1 << 20

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return readAll(f, path, limit)
}

func readAll(f File, path string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", path, limit)
	}
	return b, nil
}

// Exists reports whether a name exists. If Lstat fails for another reason, Exists returns
// true, so that nothing overwrites an invisible file.
func Exists(fsys FS, path string) bool {
	_, err := fsys.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
