// Package disk is the only way this program changes files whose loss would
// matter, so that "durable" means one thing everywhere and a test can make any
// single step fail.
//
// FS is the seam: OS is the machine's file system, package faultdisk a disk that
// fails, writes short or loses power at a chosen call. On a crash the helpers
// promise: Replace leaves the old content or the new one, never a mixture;
// Publish never overwrites; what they returned nil for survives a power cut.
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
	// Sync makes content and size durable. After an error nothing that was
	// written since the last success may be believed, also if a later Sync
	// succeeds (the kernel marks failed pages clean).
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
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// OpenFlush prepares flushes of the file system that has the folder.
	OpenFlush(dir string) (Flusher, error)
}

// Flusher makes many files durable at once. It is for one goroutine at a time.
type Flusher interface {
	// Flush makes durable all that was written before it to the file system:
	// content, attributes and names, also what other programs wrote. If it fails,
	// nothing may be believed that was written since the last success, also if a
	// later Flush succeeds.
	Flush() error
	Close() error
}

// Partial is the ending of a file that is still being written; start-up sweeps
// remove what carries it.
const Partial = ".partial"

// Replace writes a file as a whole: after a crash it has the old content or the
// new, and after a nil return the new one, durably. The file in progress is
// path+".partial"; callers make sure that one process at a time writes a path.
func Replace(fsys FS, path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	tmp := path + Partial
	if err := WriteSync(fsys, tmp, perm, write); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("put %s in place: %w", path, err), fsys.Remove(tmp))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make %s durable: %w", path, err)
	}
	return nil
}

// ReplaceBytes is Replace for content at hand.
func ReplaceBytes(fsys FS, path string, perm fs.FileMode, content []byte) error {
	return Replace(fsys, path, perm, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// WriteSync writes a new file (or over an abandoned one) and makes its content
// durable, but not yet its name. On an error no file is left behind. perm is
// what the file gets whatever the umask.
func WriteSync(fsys FS, path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	// An abandoned one may have other rights or be another's: make it anew.
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove abandoned file: %w", err)
	}
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = fsys.Remove(path) // the first error is the one to tell
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

// MkdirAll makes a folder and its parents durably; existing ones are fine.
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
		fi, err = Stat(fsys, path) // made by another meanwhile, or a link to nowhere
	}
	if err == nil && !fi.IsDir() {
		err = wrap("mkdir", path, errors.New("exists and is not a directory"))
	}
	return err
}

// Small bounds the files that people and their tools write, in bytes: configs,
// certificates, keys, tokens.
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

// Exists tells whether a name exists; an error other than its absence counts as
// existing, so that nothing is made over what cannot be seen.
func Exists(fsys FS, path string) bool {
	_, err := fsys.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
