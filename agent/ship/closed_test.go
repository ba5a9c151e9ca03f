package ship_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/client/clienttest"
	"cis490/agent/ship"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/wire"
)

// closable is a disk with a folder that can be made inaccessible to the shipper, as by
// chmod.
type closable struct {
	disk.FS
	folder string
	closed atomic.Bool
	once   sync.Once
}

func (c *closable) denied(path string) error {
	if c.closed.Load() && strings.HasPrefix(path, c.folder+"/") {
		return &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return nil
}

func (c *closable) Lstat(path string) (fs.FileInfo, error) {
	if err := c.denied(path); err != nil {
		return nil, err
	}
	return c.FS.Lstat(path)
}

func (c *closable) Rename(from, to string) error {
	if err := c.denied(from + "/"); err != nil {
		return err
	}
	return c.FS.Rename(from, to)
}

// TestRun_ClosedFolder: episodes that were acknowledged while they could not be moved are
// moved later, and neither sent again nor recorded twice.
func TestRun_ClosedFolder(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	h.cfg.Ship.ScanEvery = config.Duration(100 * time.Millisecond)
	c := &closable{FS: disk.OS{}, folder: filepath.Join(h.dir, "episodes")}
	h.fs = c
	h.opts = func(o *ship.Options) {
		receiver := o.Receiver
		o.Receiver = closes{receiver, c} // from the first answer on
	}
	for range 5 {
		h.record(good)
	}
	_, stop := h.run()
	h.until("one is noted", func() bool { return len(h.names("shipped")) > 1 })
	c.closed.Store(false)
	h.until("all are out of the way", func() bool { return len(h.names("episodes")) == 0 && len(h.names("outbox")) == 0 })
	stop()
	receipts, err := os.ReadFile(filepath.Join(h.dir, "shipped", "receipts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if puts, rows := len(r.Puts()), strings.Count(string(receipts), "\n"); puts != 5 || rows != 5 {
		t.Errorf("%d uploads and %d receipts of 5 episodes", puts, rows)
	}
}

// closes makes the folder inaccessible once an upload has been answered.
type closes struct {
	ship.Receiver
	c *closable
}

func (x closes) Put(ctx context.Context, b client.Tarball) (wire.Receipt, bool, error) {
	receipt, created, err := x.Receiver.Put(ctx, b)
	x.c.once.Do(func() { x.c.closed.Store(true) })
	return receipt, created, err
}
