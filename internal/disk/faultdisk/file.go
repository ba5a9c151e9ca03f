package faultdisk

import (
	"io"
	"io/fs"
	"slices"

	"cis490/internal/disk"
)

// file is an open file.
type file struct {
	d       *Disk
	n       *node
	name    string
	pos     int
	appends bool
	closed  bool
	boot    int // in which it was opened
}

var _ disk.File = (*file)(nil)

// alive returns an error for a closed file and for one opened before a reboot.
func (f *file) alive() error {
	switch {
	case f.closed:
		return fs.ErrClosed
	case f.d.lost || f.boot != f.d.boot:
		return ErrPowerLost
	}
	return nil
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, int64(f.pos))
	f.pos += n
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.alive(); err != nil {
		return 0, wrap("read", f.name, err)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.alive(); err != nil {
		return 0, wrap("write", f.name, err)
	}
	err := f.d.step()
	if err != nil {
		if f.d.lost || f.d.fault != Short {
			return 0, wrap("write", f.name, err)
		}
		p = p[:len(p)/2]
	}
	if f.appends {
		f.pos = len(f.n.data)
	}
	f.n.own(f.pos)
	if end := f.pos + len(p); end > len(f.n.data) {
		f.n.data = append(f.n.data, make([]byte, end-len(f.n.data))...)
	}
	f.pos += copy(f.n.data[f.pos:], p)
	f.d.touch(f.n)
	return len(p), wrap("write", f.name, err)
}

func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.alive(); err != nil {
		return wrap("sync", f.name, err)
	}
	if err := f.d.step(); err != nil {
		return wrap("sync", f.name, err)
	}
	f.n.keep()
	delete(f.d.dirty, f.n)
	return nil
}

// keep makes a file's content durable. The bytes are shared until overwritten.
func (n *node) keep() { n.durable, n.kept = slices.Clip(n.data), true }

// own makes the content from an offset on safe to overwrite.
func (n *node) own(from int) {
	if from < len(n.durable) {
		n.data = slices.Clone(n.data)
	}
}

func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.alive(); err != nil {
		return wrap("truncate", f.name, err)
	}
	if err := f.d.step(); err != nil {
		return wrap("truncate", f.name, err)
	}
	f.d.touch(f.n)
	if size <= int64(len(f.n.data)) {
		f.n.data = f.n.data[:size:size]
	} else {
		f.n.data = append(f.n.data, make([]byte, size-int64(len(f.n.data)))...)
	}
	return nil
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.alive(); err != nil {
		return nil, wrap("stat", f.name, err)
	}
	return f.n.info(f.name), nil
}

func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return wrap("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
