// Package pg keeps the index, the logs and the documents in PostgreSQL, so that several
// receivers can share them. Tarballs, releases and the roster stay in another backend.
//
// An episode's row is unique by host and episode, so the database decides which content an
// episode has. Rows are partitioned by the month in the episode's id. All rows that wait at
// the same time are committed by one statement, which may be repeated. An error whose outcome
// is not known is receiver.ErrUnavailable, never a success and never a conflict; a commit that
// only warned (its wait for a standby was cancelled) is such an error.
//
// Rows are followed by position. Below pg_snapshot_xmin no transaction is open, so no row
// appears behind a follower. Nothing uses the state of a session: no NOTIFY, no session locks,
// no SET. So PgBouncer in transaction mode works.
//
//storage:adapter
package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
)

// Options describe a backend.
type Options struct {
	Base    receiver.Backend // of the data folder: releases, spare documents, the folder's lease
	FS      disk.FS
	Dir     string               // the data folder
	URLFile string               // has the URL of the database
	Pooler  bool                 // PgBouncer in transaction mode is in between
	Copies  func() (bool, error) // the releases of Base are copies of another receiver's; nil: they are not
	Name    string               // of this receiver, as the holder of leases
	Log     *slog.Logger
}

// callTimeout bounds one operation. Their callers have no context.
const callTimeout = 15 * time.Second

// Open returns the backend. It neither opens files nor connects.
func Open(o Options) receiver.Backend {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &db{o: o, leases: map[receiver.Work]*lease{}}
	d.up, d.down = context.WithCancelCause(context.Background())
	rows := &rows{db: d}
	b := o.Base
	b.Name = "PostgreSQL and " + o.Base.Name
	b.Index = index{rows}
	b.Rows = rows
	b.Rejections = newLog(d, rejectionTable())
	b.Alerts = newLog(d, alertTable())
	b.Silences = newLog(d, silenceTable())
	b.Docs = docs{d}
	b.Peers = peers{d}
	b.Authority = &records{db: d, from: "authority_public"}
	b.Releases = releases{o.Base.Releases, docs{d}, o.Copies}
	b.Lease = d.lease
	b.Serve = func() (receiver.Store, error) { return d.serve(rows) }
	b.Explain = func(err error) error { return o.Base.Explain(Explain(err)) }
	b.Checks = func(owner string, reserve int64) []check.Check {
		return append(o.Base.Checks(owner, reserve), checks(d)...)
	}
	b.Since, b.Lag = d.since, d.lag
	b.Present = func() error { return nil } // the bucket's mark names the database's store
	return b
}

// since returns when the database was made.
func (d *db) since() (at time.Time) {
	_ = d.do(context.Background(), func(ctx context.Context, c conn) error { // without an answer nobody is judged by it
		return c.QueryRow(ctx, "SELECT made_at FROM meta").Scan(&at)
	})
	return at
}

// served is the open store: the data folder's lease and the database. It has no tarballs.
type served struct {
	*rows
	db     *db
	id     string
	folder io.Closer // the lease of the data folder

	mu    sync.Mutex
	begun time.Time // the last begin
}

// beginEvery is how often partitions are made, by a receiver that runs for months.
const beginEvery = 24 * time.Hour

// serve takes the lease of the data folder, where uploads are spooled, and checks the
// database.
func (d *db) serve(r *rows) (_ receiver.Store, err error) {
	if err := d.placed(); err != nil {
		return nil, err
	}
	folder, err := d.o.prepare()
	if err != nil {
		return nil, err
	}
	s := &served{rows: r, db: d, folder: folder}
	if err = d.usable(); err == nil {
		s.id, err = r.ID()
	}
	if err == nil {
		err, s.begun = errors.Join(d.begin(), Place(d.o.FS, d.o.Dir)), time.Now()
	}
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return s, nil
}

// begin makes the partitions of the next months, and lets positions grow on if transaction
// ids restarted, as after a dump was loaded into another server.
func (d *db) begin() error {
	return d.do(context.Background(), func(ctx context.Context, c conn) error {
		var made int
		if err := c.QueryRow(ctx, "SELECT add_partitions(3)").Scan(&made); err != nil {
			return fmt.Errorf("add partitions: %w", err)
		}
		_, err := c.Exec(ctx, `UPDATE meta SET epoch = epoch + 1, pos_base = m.pos + 1
			FROM (SELECT coalesce(max(pos), 0) AS pos FROM index_rows) m WHERE m.pos >= pos_base + pg_current_xact_id()::text::bigint`)
		return err
	})
}

// ID returns the id of the store in the database.
func (s *served) ID() string { return s.id }

// Lookup returns the row of an episode.
func (s *served) Lookup(h ident.Host, id ident.EpisodeID) (receiver.Entry, bool, error) {
	return s.Find(context.Background(), receiver.Key{Host: h, Episode: id})
}

var errNoTarballs = errors.New("a database has no tarballs")

// Receive returns an error.
func (s *served) Receive(receiver.Upload, io.Reader, func() error) (receiver.Entry, bool, error) {
	return receiver.Entry{}, false, errNoTarballs
}

// Archive returns an error.
func (s *served) Archive(ident.Host, map[ident.EpisodeID]ident.Digest) ([]ident.EpisodeID, int64, error) {
	return nil, 0, errNoTarballs
}

// Compare returns an error.
func (s *served) Compare(context.Context) (receiver.Comparison, error) {
	return receiver.Comparison{}, errNoTarballs
}

// Conditions tests the database, and the disk on which uploads are spooled.
func (s *served) Conditions(bool) []receiver.Condition {
	err := s.db.tested()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && time.Since(s.begun) > beginEvery {
		err, s.begun = s.db.begin(), time.Now()
	}
	if err != nil {
		return []receiver.Condition{{What: "database", Err: err}}
	}
	return nil
}

// Waiting returns 0, because each call has a timeout.
func (s *served) Waiting(time.Time) time.Duration { return 0 }

// Close releases the folder and closes the connections.
func (s *served) Close() error {
	err := s.folder.Close()
	s.db.reset()
	return err
}
