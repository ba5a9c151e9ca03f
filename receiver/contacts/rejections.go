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

// The first rejection of a kind is written within flushEvery. Repeats are counted and
// written as one row when the window ends.
const (
	flushEvery = 2 * time.Second
	window     = time.Hour
	maxOpen    = 20_000
)

// Rejections writes rejections.jsonl. Note does not wait for the disk.
type Rejections struct {
	o Options

	mu      sync.Mutex
	open    map[rejectionKey]*counting
	dropped uint64 // not counted, because maxOpen kinds are open

	unwritten error // of the last Flush
}

type rejectionKey struct {
	host   ident.Host
	proven bool
	route  receiver.Route
	kind   wire.Kind
}

type counting struct {
	row     receiver.Rejection // Count, First and Last cover what is not written yet
	began   time.Time
	written bool // the first rejection is in the file
}

// OpenRejections opens the log of rejections.
func OpenRejections(o Options) (*Rejections, error) {
	if err := o.Rejections.Open(); err != nil {
		return nil, err
	}
	return &Rejections{o: o, open: map[rejectionKey]*counting{}}, nil
}

// Note counts a rejection. It sets the row's V, Count, First and Last.
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

// Run flushes periodically until ctx ends, and then writes all counts.
func (r *Rejections) Run(ctx context.Context) error {
	return writeEach(ctx, max(flushEvery, r.o.Poll), r.o.Log, "rejections", r.Flush)
}

// Flush writes the first rejection of each window, and the repeats of windows that ended
// or, with all, of all windows. Counts that could not be written are kept.
func (r *Rejections) Flush(all bool) error {
	err := r.flush(all)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unwritten = err
	return err
}

// Unwritten returns the error of the last Flush.
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
		r.o.Log.Warn("dropped rejections: too many hosts and kinds within an hour", "count", dropped)
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
		c.row.Count -= row.Count // Note may have counted more meanwhile
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
