package pg

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/internal/ident"
	"cis490/receiver"
)

// pageRows is how many rows are read at once. Whoever reads all of a time, or searches for a prefix,
// which most rows do not have, reads more.
const (
	pageRows   = 1000
	sinceRows  = 10_000
	searchRows = 20_000
)

// index is the index of the episodes. Its order is the time of the rows by the database's
// clock; rows of the same time are ordered by host and episode.
type index struct{ *rows }

const entryColumns = "host, episode, sha256, size, code_commit, received_at, repaired, archived"

// entries reads rows with entryColumns, and more columns into rest.
func entries(found pgx.Rows, err error, rest []any, each func(receiver.Entry)) error {
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	var e receiver.Entry
	var digest, code []byte
	into := append([]any{&e.Host, &e.Episode, &digest, &e.Size, &code, &e.ReceivedAt, &e.Repaired, &e.Archived}, rest...)
	_, err = pgx.ForEachRow(found, into, func() error {
		e.V, e.ReceivedAt = 1, e.ReceivedAt.UTC()
		e.Digest, e.Commit = ident.Digest(hex.EncodeToString(digest)), ident.Commit(hex.EncodeToString(code))
		each(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	return nil
}

// Append adds rows, each at most once, and archived ones to what is archived.
func (x index) Append(all []receiver.Entry) error {
	for len(all) > 0 {
		var batch []*commit
		var archived []receiver.Entry
		n := min(len(all), batchRows)
		for i := range all[:n] {
			if all[i].Archived {
				archived = append(archived, all[i])
				continue
			}
			batch = append(batch, &commit{entry: all[i]})
		}
		added := append([]*commit(nil), batch...)
		if err := x.insert(batch); err != nil {
			return err
		}
		for i, c := 0, 0; i < n; i++ {
			if !all[i].Archived {
				all[i] = added[c].have
				c++
			}
		}
		if err := x.Archive(context.Background(), archived); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// Copy adds rows with their own times.
func (x index) Copy(all []receiver.Entry) error {
	own := func(e receiver.Entry) time.Time { return e.ReceivedAt }
	for part := range slices.Chunk(all, batchRows) {
		var batch []*commit
		var archived []receiver.Entry
		seen := map[receiver.Key]bool{}
		for _, e := range part {
			if e.Archived {
				archived = append(archived, e)
			}
			if k := e.Key(); !seen[k] { // also for an archived one whose first row was lost
				seen[k] = true
				batch = append(batch, &commit{entry: e, at: own(e)})
			}
		}
		if err := x.insert(batch); err != nil {
			return err
		}
		if err := x.archive(context.Background(), archived, own); err != nil {
			return err
		}
	}
	return nil
}

// place is a row's place in the order of time.
type place struct {
	at      time.Time
	host    string
	episode string
}

func placeOf(e receiver.Entry) place { return place{e.ReceivedAt, string(e.Host), string(e.Episode)} }

func (p place) String() string { return fmt.Sprintf("%d.%s.%s", p.at.UnixMicro(), p.host, p.episode) }

func parsePlace(s string) (p place, err error) {
	part := strings.Split(s, ".")
	if len(part) != 3 {
		return p, receiver.ErrCursor
	}
	micros, err := strconv.ParseInt(part[0], 10, 64)
	if err != nil {
		return p, receiver.ErrCursor
	}
	return place{time.UnixMicro(micros), part[1], part[2]}, nil
}

// Since yields the rows page by page. An archived episode has two rows, as in index.jsonl.
func (x index) Since(from time.Time) iter.Seq2[receiver.Entry, error] {
	return func(yield func(receiver.Entry, error) bool) {
		for last := (place{at: from}); ; {
			var page []receiver.Entry
			err := x.db.do(context.Background(), func(ctx context.Context, c conn) error {
				found, err := c.Query(ctx, "SELECT "+entryColumns+` FROM index_rows
					WHERE received_at >= $1 AND (received_at, host, episode) > ($1, $2, $3)
					ORDER BY received_at, host, episode LIMIT $4`, last.at, last.host, last.episode, sinceRows)
				return entries(found, err, nil, func(e receiver.Entry) { page = append(page, e) })
			})
			if err != nil {
				yield(receiver.Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) < sinceRows {
				return
			}
			last = placeOf(page[len(page)-1])
		}
	}
}

// Before yields the rows that match, newest first. A page without a match yields a cursor.
func (x index) Before(q receiver.Query) iter.Seq2[receiver.Found[receiver.Entry], error] {
	return func(yield func(receiver.Found[receiver.Entry], error) bool) {
		last := place{at: time.Now().AddDate(1000, 0, 0)}
		if !q.Until.IsZero() {
			last = place{q.Until.Add(time.Microsecond), "", ""}
		}
		if q.Cursor != "" {
			p, err := parsePlace(q.Cursor)
			if err != nil {
				yield(receiver.Found[receiver.Entry]{}, err)
				return
			}
			last = p
		}
		for {
			page, n, err := x.page(q, last)
			if err != nil {
				yield(receiver.Found[receiver.Entry]{}, err)
				return
			}
			for i, f := range page {
				if i == len(page)-1 && n == 0 {
					f.Cursor = ""
				}
				if !yield(f, nil) {
					return
				}
			}
			if n == 0 {
				return
			}
			f := page[len(page)-1]
			last = placeOf(f.Row)
		}
	}
}

// page returns the matching rows before a place, and the last row that was read. more is 0 if
// there are no rows before it.
func (x index) page(q receiver.Query, last place) (page []receiver.Found[receiver.Entry], more int, err error) {
	limit := pageRows
	if q.Prefix != "" {
		limit = searchRows
	}
	args := []any{last.at, last.host, last.episode, q.Prefix + "%", limit}
	where := "received_at <= $1 AND (received_at, host, episode) < ($1, $2, $3)"
	if q.Host != "" {
		args = append(args, q.Host)
		where += fmt.Sprintf(" AND host = $%d", len(args))
	}
	if q.Episode != "" {
		args = append(args, string(q.Episode))
		where += fmt.Sprintf(" AND episode = $%d", len(args))
	}
	read := 0
	err = x.db.do(context.Background(), func(ctx context.Context, c conn) error {
		var match, end bool
		found, err := c.Query(ctx, `
SELECT * FROM (
  SELECT `+entryColumns+`, encode(sha256, 'hex') LIKE $4 OR coalesce(encode(code_commit, 'hex'), '') LIKE $4 AS match,
         row_number() OVER () = count(*) OVER () AS last, count(*) OVER () AS read
    FROM (SELECT * FROM index_rows WHERE `+where+` ORDER BY received_at DESC, host DESC, episode DESC LIMIT $5) AS page) AS p
 WHERE match OR last ORDER BY received_at DESC, host DESC, episode DESC`, args...)
		return entries(found, err, []any{&match, &end, &read}, func(e receiver.Entry) {
			f := receiver.Found[receiver.Entry]{Row: e, At: e.ReceivedAt, Match: match, Cursor: placeOf(e).String()}
			page = append(page, f)
		})
	})
	if read < limit {
		return page, 0, err
	}
	return page, read, err
}

// Last returns the time of the newest row.
func (x index) Last() (at time.Time, found bool, err error) {
	err = x.db.do(context.Background(), func(ctx context.Context, c conn) error {
		err := c.QueryRow(ctx, "SELECT received_at FROM index_rows ORDER BY received_at DESC LIMIT 1").Scan(&at)
		if found = err == nil; errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return at.UTC(), found, err
}

// Healthy tests that the database can be written.
func (x index) Healthy() error { return x.db.usable() }

// Open does nothing: there is nothing to repair.
func (x index) Open() error { return nil }

// Close does nothing.
func (x index) Close() error { return nil }

// Follow returns a reader by position.
func (x index) Follow(from time.Time) receiver.Follower[receiver.Entry] {
	return &feed{db: x.db, from: from}
}

// feed follows the rows by (position, host, episode). A position is the id of the transaction
// that wrote the row, and is read once no transaction up to it is open: so no row appears
// behind the reader. Open writers hold it up, long readers do not.
type feed struct {
	db    *db
	from  time.Time
	epoch string // of the positions; empty: not begun
	pos   int64
	host  string
	id    string
}

// epochNow changes when positions may restart: after a failover, and when begin says so.
const epochNow = "(SELECT epoch FROM meta) || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"

// Read reads the rows since the last call.
func (f *feed) Read(begin func(), add func(receiver.Entry)) error {
	for {
		page, again, err := f.page()
		if err != nil {
			return err
		}
		if again { // rows may be gone, or have lower positions than those that were read
			begin()
			continue
		}
		for _, e := range page {
			if !e.ReceivedAt.Before(f.from) {
				add(e)
			}
		}
		if len(page) < pageRows {
			return nil
		}
	}
}

func (f *feed) page() (page []receiver.Entry, begun bool, err error) {
	next := *f
	err = f.db.do(context.Background(), func(ctx context.Context, c conn) error {
		page = nil
		var epoch string
		if err := c.QueryRow(ctx, "SELECT "+epochNow).Scan(&epoch); err != nil {
			return fmt.Errorf("read the feed: %w", err)
		}
		if epoch != f.epoch {
			begun = true
			next.epoch, next.host, next.id = epoch, "", ""
			// Within a minute, the order of times may differ from that of positions.
			err := c.QueryRow(ctx, `
SELECT least(min(pos), (SELECT pos_base FROM meta) + pg_snapshot_xmin(pg_current_snapshot())::text::bigint)
  FROM index_rows WHERE received_at >= $1
   AND received_at < (SELECT min(received_at) FROM index_rows WHERE received_at >= $1) + interval '1 minute'`, f.from).Scan(&next.pos)
			if err != nil {
				return fmt.Errorf("read the feed: %w", err)
			}
			return nil
		}
		var pos int64
		found, err := c.Query(ctx, "SELECT "+entryColumns+`, pos FROM index_rows
			WHERE pos >= $1 AND (pos, host, episode) > ($1, $2, $3)
			  AND pos < (SELECT pos_base FROM meta) + pg_snapshot_xmin(pg_current_snapshot())::text::bigint
			ORDER BY pos, host, episode LIMIT $4`, f.pos, f.host, f.id, pageRows)
		return entries(found, err, []any{&pos}, func(e receiver.Entry) {
			next.pos, next.host, next.id = pos, string(e.Host), string(e.Episode)
			page = append(page, e)
		})
	})
	if err == nil {
		*f = next
	}
	return page, begun, err
}
