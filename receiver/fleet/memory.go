package fleet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cis490/internal/disk"
)

// Memory is where fleet-check keeps what its next run needs: the data folder, and
// while that cannot be written the spare folder, which does not survive a boot.
type Memory struct {
	FS    disk.FS
	Dir   string // the receiver's data folder
	Spare string // empty: none
	// Lost is set while the data folder must not be touched: it hangs, or it is the
	// empty mount point of a disk. ReadOnly is set while it cannot be written.
	Lost, ReadOnly bool
}

// unwritten ends the name of a file in the spare folder that is newer than the one in
// the data folder; any other there is a copy, for when the data folder is lost.
const unwritten = ".new"

// Read returns the content of a file of at most limit bytes, as it was last written.
func (m Memory) Read(name string, limit int64) (b []byte, err error) {
	if m.Spare != "" {
		if b, err = disk.ReadFile(m.FS, filepath.Join(m.Spare, name+unwritten), limit); !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	err = fs.ErrNotExist
	if !m.Lost {
		b, err = disk.ReadFile(m.FS, filepath.Join(m.Dir, name), limit)
	}
	if m.Spare == "" || !m.Lost && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return b, err
	}
	if kept, bad := disk.ReadFile(m.FS, filepath.Join(m.Spare, name), limit); bad == nil {
		return kept, nil
	}
	return b, err
}

// Write replaces a file in the data folder, or else in the spare folder. An error says
// that the data folder failed though it could be written before, or that no folder
// has the file.
func (m Memory) Write(name string, perm fs.FileMode, content []byte) (err error) {
	if !m.Lost && !m.ReadOnly {
		err = disk.ReplaceBytes(m.FS, filepath.Join(m.Dir, name), perm, content)
	}
	if m.Spare == "" {
		return err
	}
	spare := filepath.Join(m.Spare, name)
	if m.Lost || m.ReadOnly || err != nil {
		return errors.Join(err, disk.ReplaceBytes(m.FS, spare+unwritten, perm, content))
	}
	if err = m.FS.Remove(spare + unwritten); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = disk.ReplaceBytes(m.FS, spare, perm, content) // the data folder has it
	return nil
}

// try finds out whether the data folder takes what a run writes.
func (m Memory) try() error {
	size := int64(4 << 10)
	if fi, err := m.FS.Lstat(filepath.Join(m.Dir, RunFile)); err == nil {
		if !fi.Mode().IsRegular() {
			return fmt.Errorf("%s: %w", filepath.Join(m.Dir, RunFile), disk.ErrNotRegular)
		}
		size = max(size, fi.Size())
	}
	path := filepath.Join(m.Dir, RunFile+disk.Partial)
	err := disk.WriteSync(m.FS, path, 0o600, func(w io.Writer) error {
		_, err := w.Write(make([]byte, size))
		return err
	})
	if err == nil {
		err = m.FS.Remove(path)
	}
	if err != nil {
		return err
	}
	f, err := m.FS.OpenFile(filepath.Join(m.Dir, AlertsFile), os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.Close()
	}
	return err
}

// errStuck reports that the disk did not answer in time.
var errStuck = errors.New("the disk has not answered")

// within returns what f returns, or errStuck after a limit; 0 is no limit. f goes on
// then, so it must change nothing that the caller uses; late gets what it returns.
func within[T any](limit time.Duration, f func() (T, error), late func(T)) (v T, err error) {
	if limit == 0 {
		return f()
	}
	done, gone := make(chan struct{}), make(chan struct{})
	var got T
	var bad error
	go func() {
		got, bad = f()
		select {
		case done <- struct{}{}:
		case <-gone:
			late(got)
		}
	}()
	select {
	case <-done:
		return got, bad
	case <-time.After(limit):
		close(gone)
		return v, fmt.Errorf("%w for %s", errStuck, limit)
	}
}
