package store

import (
	"errors"
	"fmt"
	"sync"

	"cis490/internal/disk"
	"cis490/receiver"
)

// groupCommit makes linked uploads durable, and then their rows. Uploads that wait at the
// same time share one flush of the disk and one append.
type groupCommit struct {
	disk  disk.Flusher
	index Index

	running sync.Mutex

	mu     sync.Mutex
	next   *commit // not begun: its flush covers all earlier writes
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
	failed, err := c.flush()
	b.err = make([]error, len(b.uploads))
	var rows []receiver.Entry
	for i, it := range b.uploads {
		switch {
		case err != nil:
			b.err[i] = fmt.Errorf("make episode durable: %w", err)
		case it.epoch != failed:
			// The failed flush may have been for this upload's data, and the kernel reports an
			// error only once.
			b.err[i] = errors.New("make episode durable: a flush of the disk failed while it was written")
		default:
			it.durable = true
			rows = append(rows, it.row)
		}
	}
	err = c.index.Append(rows)
	for i, it := range b.uploads {
		switch {
		case b.err[i] != nil:
		case err != nil:
			b.err[i] = fmt.Errorf("index episode: %w", err)
		default:
			it.row, rows = rows[0], rows[1:]
		}
	}
}

// try flushes the disk without an upload. A failure counts for the uploads in progress.
func (c *groupCommit) try() error {
	c.running.Lock()
	defer c.running.Unlock()
	_, err := c.flush()
	return err
}

// flush flushes the disk and returns the number of failed flushes. Uploads that are added
// later wait for the next one.
func (c *groupCommit) flush() (failed int, err error) {
	c.mu.Lock()
	c.next = nil
	c.mu.Unlock()
	//off:11_PowerCutReceiver.sim
	err = c.disk.Flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed++
	}
	return c.failed, err
}
