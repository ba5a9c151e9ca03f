package store_test

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"cis490/internal/disk"
)

// shaky is a disk whose flushes fail while the test says so.
type shaky struct {
	disk.OS
	fails *atomic.Bool
}

func (d shaky) OpenFlush(dir string) (disk.Flusher, error) {
	f, err := d.OS.OpenFlush(dir)
	return shakyFlusher{f, d.fails}, err
}

type shakyFlusher struct {
	disk.Flusher
	fails *atomic.Bool
}

func (f shakyFlusher) Flush() error {
	if f.fails.Load() {
		return errors.New("the drive is gone")
	}
	return f.Flusher.Flush()
}

// TestReceive_FailedFlushIsNotBelieved: the kernel reports a failed write once. Data that
// was written while another upload's flush failed is not acknowledged either, even if its
// own flush succeeds.
func TestReceive_FailedFlushIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	var fails atomic.Bool
	r := openT(t, shaky{fails: &fails}, dir)
	one, two := uploads[0], uploads[1]
	_, _, err := r.s.Receive(one, body(one), func() error { // it is written, and not flushed yet
		fails.Store(true)
		defer fails.Store(false)
		if r.put(two) == nil {
			t.Error("acknowledged although its flush failed")
		}
		return nil
	})
	if err == nil {
		t.Error("acknowledged although a flush failed since it was written")
	}
	left := append(names(t, filepath.Join(dir, "staged")), names(t, filepath.Join(dir, "episodes/lab-a"))...)
	if rows := rowsOf(t, dir); len(left) > 0 || len(rows) > 0 {
		t.Errorf("left %q, %d rows", left, len(rows))
	}
	if err := errors.Join(r.put(one), r.put(two)); err != nil {
		t.Errorf("then: %v", err)
	}
}
