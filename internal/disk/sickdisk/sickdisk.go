// Package sickdisk is the machine's disk with calls that fail, for tests of programs on a
// broken disk. Package faultdisk models crashes; here real files, attributes and locks work
// beside the fault.
package sickdisk

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"

	"cis490/internal/disk"
)

// Fault returns the error of a call, or nil. Op is "open", "create", "read", "write",
// "fsync", "syncdir", "setattr", "lstat", "link", "mkdir", "rename", "remove", "readdir",
// "statfs" or "syncfs"; size is the number of bytes written to the file so far.
type Fault func(op, path string, size int64) error

// Disk is disk.OS except for the failing calls. The zero value has none.
type Disk struct {
	disk.OS
	fault atomic.Pointer[Fault]
}

var _ interface {
	disk.FS
	disk.Attrs
	disk.Space
} = (*Disk)(nil)

// Fail sets the fault of all later calls; nil ends it.
func (d *Disk) Fail(f Fault) {
	if f == nil {
		d.fault.Store(nil)
		return
	}
	d.fault.Store(&f)
}

func (d *Disk) call(op, path string, size int64) error {
	fault := d.fault.Load()
	if fault == nil {
		return nil
	}
	if err := (*fault)(op, path, size); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

type file struct {
	disk.File
	d    *Disk
	path string
	size int64
}

// OpenFile opens a file.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	if err := d.call(op, name, 0); err != nil {
		return nil, err
	}
	f, err := d.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &file{File: f, d: d, path: name}, nil
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.d.call("read", f.path, f.size); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.d.call("read", f.path, f.size); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *file) Write(p []byte) (int, error) {
	f.size += int64(len(p))
	if err := f.d.call("write", f.path, f.size); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *file) Sync() error {
	return errors.Join(f.d.call("fsync", f.path, f.size), f.File.Sync())
}

// SetAttr sets an attribute of a file that this disk has opened.
func (d *Disk) SetAttr(f disk.File, attr string, value []byte) error {
	s, ok := f.(*file)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := d.call("setattr", s.path, 0); err != nil {
		return err
	}
	return d.OS.SetAttr(s.File, attr, value)
}

// Lstat describes a name.
func (d *Disk) Lstat(name string) (fs.FileInfo, error) {
	if err := d.call("lstat", name, 0); err != nil {
		return nil, err
	}
	return d.OS.Lstat(name)
}

// SyncDir makes the names in a folder durable.
func (d *Disk) SyncDir(name string) error {
	if err := d.call("syncdir", name, 0); err != nil {
		return err
	}
	return d.OS.SyncDir(name)
}

// Link gives a file another name.
func (d *Disk) Link(from, to string) error {
	if err := d.call("link", to, 0); err != nil {
		return err
	}
	return d.OS.Link(from, to)
}

// Mkdir makes a folder.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	if err := d.call("mkdir", name, 0); err != nil {
		return err
	}
	return d.OS.Mkdir(name, perm)
}

// Rename renames.
func (d *Disk) Rename(from, to string) error {
	if err := d.call("rename", to, 0); err != nil {
		return err
	}
	return d.OS.Rename(from, to)
}

// Remove removes.
func (d *Disk) Remove(name string) error {
	if err := d.call("remove", name, 0); err != nil {
		return err
	}
	return d.OS.Remove(name)
}

// ReadDir lists a folder.
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := d.call("readdir", name, 0); err != nil {
		return nil, err
	}
	return d.OS.ReadDir(name)
}

// Free returns the free space.
func (d *Disk) Free(name string) (int64, error) {
	if err := d.call("statfs", name, 0); err != nil {
		return 0, err
	}
	return d.OS.Free(name)
}

type flusher struct {
	disk.Flusher
	d *Disk
}

// OpenFlush prepares flushes.
func (d *Disk) OpenFlush(dir string) (disk.Flusher, error) {
	f, err := d.OS.OpenFlush(dir)
	return &flusher{f, d}, err
}

func (f *flusher) Flush() error { return errors.Join(f.d.call("syncfs", "", 0), f.Flusher.Flush()) }
