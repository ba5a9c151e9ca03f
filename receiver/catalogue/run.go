package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"cis490/internal/episode"
	"cis490/internal/plain"
	"cis490/receiver"
)

const (
	// pollEvery is the interval at which the index is read for new rows. busyEvery is the
	// interval after one with busyRows new rows: a larger write costs less for each row.
	pollEvery = time.Second
	busyEvery = 5 * time.Second
	busyRows  = 100
	// longestPoll is the interval after several failures.
	longestPoll = time.Minute
	// batch bounds the episodes of one write to the disk. While it catches up, rows wait
	// for each other; at most batchFor.
	batch    = 2000
	batchFor = time.Second
)

// Source is what the catalogue is derived from.
type Source struct {
	Index    receiver.Log[receiver.Entry]
	Episodes receiver.Episodes
	Log      *slog.Logger
}

// Run catalogues what the index has beyond the catalogue, and then each new episode, until
// the context ends. It returns ErrDamaged; other errors are logged, and what failed is tried
// again.
func (c *Catalogue) Run(ctx context.Context, src Source) error {
	if err := c.retry(ctx, src); err != nil && ctx.Err() == nil {
		src.Log.Warn("unread episodes are not tried again", "err", err)
	}
	wait := pollEvery
	for {
		n, err := c.CatchUp(ctx, src)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrDamaged):
			return err
		case err != nil: // perhaps an object store is away
			wait = min(2*wait, longestPoll)
			src.Log.Error("episodes are not catalogued", "retry", wait, "err", err)
		case n >= busyRows:
			wait = busyEvery
		default:
			wait = pollEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// CatchUp catalogues what the index has beyond the catalogue, and returns how many rows of
// the index it read.
func (c *Catalogue) CatchUp(ctx context.Context, src Source) (n int, err error) {
	reached, _, err := c.Reached()
	if err != nil {
		return 0, err
	}
	if last, any, err := src.Index.Last(); err != nil || !any || !last.After(reached) {
		return 0, err
	}
	w, err := c.writer(src)
	if err != nil {
		return 0, err
	}
	defer w.inspect.Close()
	for e, err := range src.Index.Since(reached) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return n, errors.Join(err, w.flush())
		}
		if !e.ReceivedAt.After(reached) {
			continue
		}
		n++
		if err := w.add(e); err != nil {
			return n, err
		}
	}
	return n, w.flush()
}

// retry reads the tarballs that were not there, or not readable, when they were catalogued.
func (c *Catalogue) retry(ctx context.Context, src Source) error {
	reached, _, err := c.Reached()
	if err != nil {
		return err
	}
	w, err := c.writer(src)
	if err != nil {
		return err
	}
	defer w.inspect.Close()
	w.reached = reached
	for q := (Query{State: Unread}); ; {
		p, err := c.Find(q)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		for _, r := range p.Rows {
			now, err := w.row(receiver.Entry{
				Host: r.Host, Episode: r.Episode, Digest: r.Digest, Size: r.Size, Commit: r.Commit, ReceivedAt: r.ReceivedAt,
			})
			if err != nil {
				return err
			}
			if now.State != Unread {
				now.Archived = r.Archived
				w.rows = append(w.rows, now)
			}
		}
		if err := w.flush(); err != nil {
			return err
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			return nil
		}
	}
}

// writer collects rows for one write.
type writer struct {
	c       *Catalogue
	src     Source
	rows    []Row
	places  map[receiver.Key]int // in rows
	reached time.Time
	since   time.Time
	inspect *episode.Inspector
}

func (c *Catalogue) writer(src Source) (*writer, error) {
	inspect, err := episode.NewInspector(c.limits)
	return &writer{c: c, src: src, since: time.Now(), inspect: inspect}, err
}

func (w *writer) add(e receiver.Entry) error {
	// Rows with the same time are written together, because reached covers all of them.
	if (len(w.rows) >= batch || time.Since(w.since) > batchFor) && e.ReceivedAt.After(w.reached) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	r, err := w.row(e)
	if err != nil {
		return err
	}
	if at, ok := w.places[e.Key()]; ok {
		w.rows[at] = r
	} else {
		if w.places == nil {
			w.places = map[receiver.Key]int{}
		}
		w.places[e.Key()] = len(w.rows)
		w.rows = append(w.rows, r)
	}
	w.reached = e.ReceivedAt
	return nil
}

// notedErrors records a reader's error.
type notedErrors struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (n *notedErrors) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return k, err
}

// row catalogues an entry of the index. It keeps the row of an archived episode.
func (w *writer) row(e receiver.Entry) (Row, error) {
	r := NewRow(e)
	if e.Archived {
		known, found, err := w.known(e.Key())
		if err != nil {
			return r, err
		}
		if found {
			known.Archived = true
			return known, nil
		}
	}
	f, err := w.src.Episodes.OpenRow(e)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Problem = "its tarball is not in the store"
		return r, nil
	case err != nil:
		return r, fmt.Errorf("catalogue %s/%s: %w", e.Host, e.Episode, err)
	}
	noted := &notedErrors{Reader: f}
	r.read(noted, w.inspect)
	if err := errors.Join(noted.err, f.Close()); err != nil { // of the storage, not of the content
		r = NewRow(e)
		r.Problem = plain.Line(err.Error(), maxProblem)
	}
	return r, nil
}

func (w *writer) known(k receiver.Key) (Row, bool, error) {
	if at, ok := w.places[k]; ok {
		return w.rows[at], true, nil
	}
	return w.c.Get(k.Host, k.Episode)
}

func (w *writer) flush() error {
	if len(w.rows) == 0 {
		return nil
	}
	if err := w.c.put(w.rows, w.reached); err != nil {
		return fmt.Errorf("write catalogue: %w", err)
	}
	w.rows, w.places, w.since = w.rows[:0], nil, time.Now()
	return nil
}
