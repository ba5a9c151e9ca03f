package local

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

	"cis490/internal/disk"
	"cis490/internal/ledger"
	"cis490/receiver"
	"cis490/receiver/store"
)

var _ store.Shared = (*log[receiver.Entry])(nil)

// Shares compares the file system of the file with that of a folder.
func (l *log[T]) Shares(dir string) (bool, error) {
	a, err := disk.Stat(l.o.FS, l.path)
	if err != nil {
		return false, err
	}
	b, err := disk.Stat(l.o.FS, dir)
	return err == nil && disk.SameDisk(a, b), err
}

// AppendWith appends rows that flush makes durable.
func (l *log[T]) AppendWith(rows []T, flush func() error) error {
	w, err := l.writer()
	if err != nil {
		return err
	}
	return w.AppendWith(l.build(rows), flush)
}

// Cut removes a row that Before found, and all after it.
func (l *log[T]) Cut(at receiver.Found[T]) error {
	w, err := l.writer()
	if err != nil {
		return err
	}
	offset := int64(0)
	if at.Cursor != "" {
		if offset, err = strconv.ParseInt(at.Cursor, 10, 64); err != nil {
			return receiver.ErrCursor
		}
	}
	return w.Cut(offset)
}

// settle makes durable what a killed process wrote, because opening the file makes its rows
// durable, and a row must not be so before its tarball.
func (l *log[T]) settle() error {
	if l.flushed == nil {
		return nil
	}
	open, err := store.Unflushed(l.o.FS, l.o.Dir)
	if err != nil || open == nil {
		return err
	}
	f, err := l.o.FS.OpenFlush(l.o.Dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Flush(), f.Close())
}

// settled is a file system for reading the file: it shows only rows that a crash cannot take
// back.
func (l *log[T]) settled() disk.FS { return settled{l.o.FS, l.length} }

// length returns the length of a file of a size up to which its rows are durable. In another
// process than the writing one, the names of the uploads in progress tell.
func (l *log[T]) length(size int64) (int64, error) {
	l.mu.Lock()
	w := l.l
	l.mu.Unlock()
	switch {
	case w != nil:
		return min(size, w.Durable()), nil
	case l.flushed != nil:
		return l.flushed(l.o, size)
	}
	return size, nil
}

// flushedRows returns the length of an index without the rows at its end that may not be durable.
func flushedRows(o Options, size int64) (int64, error) {
	open, err := store.Unflushed(o.FS, o.Dir)
	if err != nil || open == nil {
		return size, err
	}
	for place, err := range ledger.Backward(o.FS, filepath.Join(o.Dir, IndexFile), receivedAt, size) {
		if err != nil {
			return 0, err
		}
		if row, ok := decodeEntry(place.Row); !ok || !open(row) {
			break
		}
		size = place.Offset
	}
	return size, nil
}

// settled is a file system whose files appear to have another length when they are described.
type settled struct {
	disk.FS
	length func(size int64) (int64, error)
}

// OpenFile opens a file.
func (s settled) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return settledFile{f, s.length}, nil
}

type settledFile struct {
	disk.File
	length func(size int64) (int64, error)
}

// Stat describes the file. It reads the size first, because a row that is written after that is
// not in it.
func (f settledFile) Stat() (fs.FileInfo, error) {
	fi, err := f.File.Stat()
	if err != nil {
		return nil, err
	}
	size, err := f.length(fi.Size())
	return settledInfo{fi, size}, err
}

type settledInfo struct {
	fs.FileInfo
	size int64
}

// Size returns the length of the rows that are durable.
func (i settledInfo) Size() int64 { return i.size }
