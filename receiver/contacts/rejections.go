package contacts

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// A first refusal is written within flushEvery; its repeats are counted and
// written as one row when the window ends.
const (
	flushEvery = 2 * time.Second
	window     = time.Hour
	maxOpen    = 20_000
)

// Rejections is the writing side of rejections.jsonl. Note does not wait for the
// disk.
type Rejections struct {
	o Options

	mu      sync.Mutex
	open    map[rejectionKey]*counting
	dropped uint64 // not noted, as too much is open
	// unwritten is why the last Flush failed.
	unwritten error
}

type rejectionKey struct {
	host   ident.Host
	proven bool
	route  receiver.Route
	kind   wire.Kind
}

type counting struct {
	row     receiver.Rejection // count, first and last are of what is not written yet
	began   time.Time
	written bool // the first one is in the file
}

// OpenRejections opens the log of rejections.
func OpenRejections(o Options) (*Rejections, error) {
	if err := o.Rejections.Open(); err != nil {
		return nil, err
	}
	return &Rejections{o: o, open: map[rejectionKey]*counting{}}, nil
}

// Note counts a refusal. At, Count, First and Last are filled in.
func (r *Rejections) Note(row receiver.Rejection) {
	now := r.o.Now().UTC()
	k := rejectionKey{row.Host, row.Verified, row.Route, row.Kind}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.open[k]
	if c == nil {
		if len(r.open) >= maxOpen {
			r.dropped++
			return
		}
		c = &counting{began: now}
		r.open[k] = c
	}
	count, first := c.row.Count, c.row.First
	if count == 0 {
		first = now
	}
	row.V, row.Count, row.First, row.Last = 1, count+1, first, now
	row.Detail = check.Sanitize(row.Detail, 200)
	c.row = row
}

// Run writes refusals until ctx ends, then those that are counted.
func (r *Rejections) Run(ctx context.Context) error {
	tick := time.NewTicker(max(flushEvery, r.o.Poll))
	defer tick.Stop()
	failed := false
	for {
		last := ctx.Err() != nil
		err := r.Flush(last)
		if err != nil && !failed {
			r.o.Log.Error("refusals are not written", "err", err)
		}
		failed = err != nil
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// Flush writes the first refusal of each window, and the repeats of windows
// that ended; all of them if all is set. What could not be written is kept.
func (r *Rejections) Flush(all bool) error {
	err := r.flush(all)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unwritten = err
	return err
}

// Unwritten returns why refusals could not be written; nil if the last Flush wrote them.
func (r *Rejections) Unwritten() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unwritten
}

func (r *Rejections) flush(all bool) error {
	now := r.o.Now().UTC()
	due := map[rejectionKey]receiver.Rejection{}
	r.mu.Lock()
	for k, c := range r.open {
		over := all || now.Sub(c.began) >= window
		if c.row.Count > 0 && (!c.written || over) {
			c.row.Repeats = c.written
			due[k] = c.row
		} else if over {
			delete(r.open, k)
		}
	}
	dropped := r.dropped
	r.dropped = 0
	r.mu.Unlock()
	if dropped > 0 {
		r.o.Log.Warn("refusals are not noted: too many hosts and reasons within an hour", "count", dropped)
	}
	if len(due) == 0 {
		return nil
	}
	if err := r.o.Rejections.Append(slices.Collect(maps.Values(due))); err != nil {
		return err
	}
	r.mu.Lock()
	for k, row := range due {
		c := r.open[k]
		c.row.Count -= row.Count // more may have come meanwhile
		c.row.First = c.row.Last
		over := now.Sub(c.began) >= window
		if c.written = true; over && c.row.Count == 0 {
			delete(r.open, k)
		} else if over {
			c.began = now
		}
	}
	r.mu.Unlock()
	return nil
}
