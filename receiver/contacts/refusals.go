package contacts

import (
	"context"
	"encoding/json"
	"iter"
	"path/filepath"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
)

// RefusalsFile is the name of the refusals in the receiver's data folder.
const RefusalsFile = "rejections.jsonl"

// refusalsKey is the time field of its rows.
const refusalsKey = "at"

// A first refusal is written within flushEvery; its repeats are counted and
// written as one row when the window ends.
const (
	flushEvery = 2 * time.Second
	window     = time.Hour
	maxOpen    = 20_000
)

// maxRefusals is how large the file may get, in bytes; then its older half goes.
// A day in which each of 2,000 hosts is refused for one reason takes half of it.
const maxRefusals = 64 << 20

// Route says what was refused.
type Route string

// The routes of hosts.
const (
	RouteEpisode   Route = "episode"
	RoutePing      Route = "ping"
	RouteReconcile Route = "reconcile"
	RouteSnapshot  Route = "host-health"
)

// Refusal is a row of rejections.jsonl: the first refusal of its kind in an
// hour, or (Repeats) how many more of them there were.
type Refusal struct {
	V       int             `json:"v"`
	At      time.Time       `json:"at"`
	Host    ident.Host      `json:"host,omitempty"` // empty: no host of the roster
	Proven  bool            `json:"proven"`         // the certificate's chain is valid
	Route   Route           `json:"route"`
	Status  int             `json:"status"`
	Kind    wire.Kind       `json:"kind"`
	Detail  string          `json:"detail,omitempty"`
	Episode ident.EpisodeID `json:"episode,omitempty"`
	Commit  ident.Commit    `json:"commit,omitempty"`
	Count   uint64          `json:"count"`
	First   time.Time       `json:"first"`
	Last    time.Time       `json:"last"`
	Repeats bool            `json:"repeats,omitempty"`
}

// Refusals is the writing side of rejections.jsonl. Note does not wait for the
// disk.
type Refusals struct {
	o    Options
	path string
	l    *ledger.Ledger

	mu      sync.Mutex
	open    map[refusalKey]*counting
	dropped uint64 // not noted, as too much is open
	// unwritten is why the last Flush failed.
	unwritten error
}

type refusalKey struct {
	host   ident.Host
	proven bool
	route  Route
	kind   wire.Kind
}

type counting struct {
	row     Refusal // count, first and last are of what is not written yet
	began   time.Time
	written bool // the first one is in the file
}

// OpenRefusals opens or creates rejections.jsonl.
func OpenRefusals(o Options) (*Refusals, error) {
	path := filepath.Join(o.DataDir, RefusalsFile)
	l, err := ledger.Open(ledger.Options{FS: o.FS, Path: path, TimeKey: refusalsKey, Perm: 0o640, Now: o.Now})
	if err != nil {
		return nil, err
	}
	return &Refusals{o: o, path: path, l: l, open: map[refusalKey]*counting{}}, nil
}

// Note counts a refusal. At, Count, First and Last are filled in.
func (r *Refusals) Note(row Refusal) {
	now := r.o.Now().UTC()
	k := refusalKey{row.Host, row.Proven, row.Route, row.Kind}
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
	row.Detail = check.Plain(row.Detail, 200)
	c.row = row
}

// Close closes the file; what is counted but not flushed is lost.
func (r *Refusals) Close() error { return r.l.Close() }

// Run writes refusals until ctx ends, then those that are counted.
func (r *Refusals) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
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
func (r *Refusals) Flush(all bool) error {
	err := r.flush(all)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unwritten = err
	return err
}

// Unwritten returns why refusals could not be written; nil if the last Flush wrote them.
func (r *Refusals) Unwritten() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unwritten
}

func (r *Refusals) flush(all bool) error {
	now := r.o.Now().UTC()
	due := map[refusalKey]Refusal{}
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
	rows := make([]func(time.Time) any, 0, len(due))
	for _, row := range due {
		rows = append(rows, func(at time.Time) any { row.At = at; return row })
	}
	if err := r.l.AppendAll(rows); err != nil {
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
	return r.bound()
}

// bound drops the older half of a file that has grown too large.
func (r *Refusals) bound() error {
	fi, err := r.o.FS.Lstat(r.path)
	if err != nil || fi.Size() <= maxRefusals {
		return err
	}
	left := fi.Size()
	return r.l.Keep(func(row ledger.Row) bool {
		left -= int64(len(row.Line)) + 1
		return left < maxRefusals/2
	})
}

// ReadRefusals yields the refusals written at from or later, oldest first. A damaged
// row is passed over. After an error the sequence ends.
func ReadRefusals(fsys disk.FS, dataDir string, from time.Time) iter.Seq2[Refusal, error] {
	return func(yield func(Refusal, error) bool) {
		for line, err := range ledger.Rows(fsys, filepath.Join(dataDir, RefusalsFile), refusalsKey, from) {
			var r Refusal
			if err == nil && json.Unmarshal(line.Line, &r) != nil {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}
