package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cis490/internal/fault"
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

// The suffixes of spare documents. Those without one are copies, for when the backend is lost.
const (
	unwritten = ".new"    // newer than the backend's
	unread    = ".unread" // empty: the newer one began while the backend's could not be read
)

// damaged is the suffix of a backend's copy of a document that could not be decoded.
const damaged = ".damaged"

var errDamaged = errors.New("cannot decode it")

// maxDocument bounds the size of a document.
const maxDocument = 64 << 20

// ReadMemory decodes the newest version of a document. If that began while an older one could
// not be read, and this one can be read now, add adds it. Without a document, ReadMemory
// returns the zero value. After an error, a writer calls Begin.
func ReadMemory[T any](m Memory, name string, add func(v *T, older T)) (v T, err error) {
	b, err := m.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	var empty T
	if err == nil && json.Unmarshal(b, &v) != nil {
		err = errDamaged
	}
	if err != nil {
		return empty, fmt.Errorf("read %s: %w", name, err)
	}
	if m.Spare == nil || m.Lost || !m.spared(name+unread) || !m.spared(name+unwritten) {
		return v, nil
	}
	var older T
	if b, err := m.Data.Load(name, maxDocument); err == nil && json.Unmarshal(b, &older) == nil {
		add(&v, older)
	}
	return v, nil
}

// read returns the newest version of a document.
func (m Memory) read(name string) (b []byte, err error) {
	if m.Spare != nil {
		if b, err = m.Spare.Load(name+unwritten, maxDocument); !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	err = fs.ErrNotExist
	if !m.Lost {
		b, err = m.Data.Load(name, maxDocument)
	}
	if m.Spare == nil || !m.Lost && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return b, err
	}
	if kept, bad := m.Spare.Load(name, maxDocument); bad == nil {
		return kept, nil
	}
	return b, err
}

func (m Memory) spared(name string) bool {
	_, err := m.Spare.Stat(name)
	return err == nil
}

// Begin prepares a new version of a document. Write does not replace one that could not be
// read; of one that could not be decoded, a copy is kept.
func (m Memory) Begin(name string, why error) error {
	switch {
	case errors.Is(why, errDamaged):
		b, err := m.read(name)
		if err == nil && !m.Lost && !m.ReadOnly {
			err = m.Data.Save(name+damaged, b)
		}
		return err
	case m.Spare != nil && !m.spared(name+unwritten):
		return m.Spare.Save(name+unread, nil)
	}
	return nil
}

// replaceable returns why the backend's document must not be replaced: it cannot be read, or
// could not at the start of the run, and the spare folder has no copy.
func (m Memory) replaceable(name string) error {
	_, err := m.Data.Load(name, maxDocument)
	begun := m.Spare != nil && m.spared(name+unread)
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil && m.Spare != nil && m.spared(name) && !begun:
		return nil
	case err == nil && begun && !m.spared(name+unwritten):
		return fmt.Errorf("%s could not be read at the start of this run", name)
	}
	path := name
	if in, ok := errors.AsType[*fs.PathError](err); ok {
		path = in.Path
	}
	return fault.Fix(err, "sudo mv "+path+" "+path+damaged+"   # if the disk cannot read it any more")
}

// Write replaces a document in the backend or, if that fails, in the spare folder. It
// returns an error if a backend that was writable before fails, or if both fail.
func (m Memory) Write(name string, content []byte) (err error) {
	if !m.Lost && !m.ReadOnly {
		if err = m.replaceable(name); err == nil {
			err = m.Data.Save(name, content)
		}
	}
	if m.Spare == nil {
		return err
	}
	if m.Lost || m.ReadOnly || err != nil {
		return errors.Join(err, m.Spare.Save(name+unwritten, content))
	}
	if err = errors.Join(m.Spare.Remove(name+unwritten), m.Spare.Remove(name+unread)); err != nil {
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
