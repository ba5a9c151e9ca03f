package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cis490/receiver"
)

// SpareDir is where fleet-check's service stores what it cannot write to the backend.
const SpareDir = "/run/cis490-fleet-health"

// Memory stores what the next run of fleet-check needs: in the backend and, while that
// cannot be written, in a spare folder that does not survive a boot.
type Memory struct {
	Data  receiver.Docs
	Spare receiver.Docs // nil: none
	// Lost is set while the backend must not be used: its disk hangs, or is not mounted.
	// ReadOnly is set while it cannot be written.
	Lost, ReadOnly bool
}

// unwritten is the suffix of spare documents that are newer than the backend's. Those
// without it are copies, for when the backend is lost.
const unwritten = ".new"

// Read returns the newest version of a document of at most limit bytes.
func (m Memory) Read(name string, limit int64) (b []byte, err error) {
	if m.Spare != nil {
		if b, err = m.Spare.Load(name+unwritten, limit); !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	err = fs.ErrNotExist
	if !m.Lost {
		b, err = m.Data.Load(name, limit)
	}
	if m.Spare == nil || !m.Lost && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return b, err
	}
	if kept, bad := m.Spare.Load(name, limit); bad == nil {
		return kept, nil
	}
	return b, err
}

// Write replaces a document in the backend or, if that fails, in the spare folder. It
// returns an error if a backend that was writable before fails, or if both fail.
func (m Memory) Write(name string, content []byte) (err error) {
	if !m.Lost && !m.ReadOnly {
		err = m.Data.Save(name, content)
	}
	if m.Spare == nil {
		return err
	}
	if m.Lost || m.ReadOnly || err != nil {
		return errors.Join(err, m.Spare.Save(name+unwritten, content))
	}
	if err = m.Spare.Remove(name + unwritten); err != nil {
		return err
	}
	_ = m.Spare.Save(name, content) // only a copy
	return nil
}

// errStuck reports that the disk did not answer in time.
var errStuck = errors.New("the disk has not answered")

// within calls f and returns its result, or errStuck after the limit, if that is not 0.
// After errStuck f still runs, so it must not change anything that the caller uses; late
// gets its result.
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
