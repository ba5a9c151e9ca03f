package store

import (
	"errors"
	"fmt"
	"sync"

	"cis490/internal/disk"
	"cis490/receiver"
)

// groupCommit makes linked uploads and their rows durable. Uploads that wait at the same time
// share one flush of the disk and one append.
type groupCommit struct {
	disk   disk.Flusher
	index  Index
	shared Shared // the index, if the flush covers it; else nil

	running sync.Mutex

	mu     sync.Mutex
	next   *commit // not begun: its flush covers all earlier writes of its uploads
	failed int     // number of failed flushes
}

type commit struct {
	done    chan struct{}
	uploads []*stagedUpload
	err     []error // of each upload
}

// epoch must be called before the first write that a commit has to cover.
func (c *groupCommit) epoch() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// add makes an upload durable and appends its row, whose time it sets.
func (c *groupCommit) add(it *stagedUpload) error {
	c.mu.Lock()
	b := c.next
	first := b == nil
	if first {
		b = &commit{done: make(chan struct{})}
		c.next = b
	}
	i := len(b.uploads)
	b.uploads = append(b.uploads, it)
	c.mu.Unlock()
	if first {
		c.run(b)
		close(b.done)
	}
	<-b.done
	return b.err[i]
}

// run waits for the commit before it, so that many uploads share one.
func (c *groupCommit) run(b *commit) {
	c.running.Lock()
	defer c.running.Unlock()
	c.mu.Lock()
	c.next = nil // uploads that are added later wait for the next commit
	failed := c.failed
	c.mu.Unlock()
	b.err = make([]error, len(b.uploads))
	var rows []receiver.Entry
	for i, it := range b.uploads {
		if it.epoch == failed {
			rows = append(rows, it.row)
			continue
		}
		// The failed flush may have been for this upload's data, and the kernel reports an error
		// only once.
		b.err[i] = errors.New("make episode durable: a flush of the disk failed while it was written")
	}
	if len(rows) == 0 {
		return
	}
	durable, err := c.write(rows)
	for i, it := range b.uploads {
		switch {
		case b.err[i] != nil:
		case err != nil:
			b.err[i], it.durable = err, durable
		default:
			it.row, rows = rows[0], rows[1:]
		}
	}
}

// write makes rows and their tarballs durable. After an error, durable reports whether the
// tarballs are. Where one flush covers both, the rows are written before it; if they cannot be
// written, the tarballs are flushed without them.
func (c *groupCommit) write(rows []receiver.Entry) (durable bool, err error) {
	if c.shared != nil {
		var failed error
		flushed := false
		err = c.shared.AppendWith(rows, func() error {
			failed, flushed = c.flush(), true
			return failed
		})
		switch {
		case failed != nil:
			return false, fmt.Errorf("make episode durable: %w", err)
		case flushed && err == nil:
			return true, nil
		}
	}
	if failed := c.flush(); failed != nil {
		return false, fmt.Errorf("make episode durable: %w", failed)
	}
	if c.shared == nil {
		err = c.index.Append(rows)
	}
	if err != nil {
		err = fmt.Errorf("index episode: %w", err)
	}
	return true, err
}

// try flushes the disk without an upload. A failure counts for the uploads in progress.
func (c *groupCommit) try() error {
	c.running.Lock()
	defer c.running.Unlock()
	return c.flush()
}

// flush flushes the disk. A failure counts for all uploads in progress.
func (c *groupCommit) flush() (err error) {
	//off:11_PowerCutReceiver.sim
	err = c.disk.Flush()
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed++
	}
	return err
}
