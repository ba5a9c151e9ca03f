package pg

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/internal/ident"
	"cis490/receiver"
)

// batchRows bounds the rows of one statement.
const batchRows = 500

// rows are the rows of episodes. Commits that wait at the same time share a statement.
type rows struct {
	db *db

	running sync.Mutex
	mu      sync.Mutex
	queue   []*commit

	idMu sync.Mutex
	id   string
}

// commit is a row that waits, and its result.
type commit struct {
	entry   receiver.Entry
	at      time.Time // zero: the database's
	done    chan struct{}
	have    receiver.Entry
	created bool
	err     error
}

// ID returns the id of the store in the database.
func (r *rows) ID() (string, error) {
	r.idMu.Lock()
	defer r.idMu.Unlock()
	if r.id != "" {
		return r.id, nil
	}
	return r.id, r.db.do(context.Background(), func(ctx context.Context, c conn) error {
		return c.QueryRow(ctx, "SELECT store_id FROM meta").Scan(&r.id)
	})
}

// Commit adds a row with the others that wait. A context that ends leaves the outcome unknown.
func (r *rows) Commit(ctx context.Context, e receiver.Entry) (receiver.Entry, bool, error) {
	c := &commit{entry: e, done: make(chan struct{})}
	r.mu.Lock()
	r.queue = append(r.queue, c)
	r.mu.Unlock()
	go r.flush()
	select {
	case <-c.done:
		return c.have, c.created, c.err
	case <-ctx.Done():
		return e, false, fmt.Errorf("%w: commit the row: %w", receiver.ErrUnavailable, ctx.Err())
	}
}

// flush commits the rows that wait. If there are none, another call has committed them.
func (r *rows) flush() {
	r.running.Lock()
	defer r.running.Unlock()
	r.mu.Lock()
	batch, rest, seen := []*commit(nil), []*commit(nil), map[receiver.Key]bool{}
	for _, c := range r.queue {
		if k := c.entry.Key(); seen[k] || len(batch) == batchRows {
			rest = append(rest, c) // a statement must not name a row twice
		} else {
			seen[k] = true
			batch = append(batch, c)
		}
	}
	r.queue = rest
	r.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	err := r.insert(batch)
	for _, c := range batch {
		if c.err = err; err != nil {
			c.created = false
		}
		close(c.done)
	}
	if len(rest) > 0 {
		go r.flush()
	}
}

// The statement may be repeated. It changes an existing row only if its tarball was lost. The
// rows are in the order of their keys, so that two receivers cannot deadlock.
const insertRows = `
INSERT INTO episodes AS e (host, episode, sha256, size, code_commit, received_at, repaired, pos)
SELECT host, episode, sha256, size, nullif(code_commit, ''), coalesce(at, clock_timestamp() + n * interval '1 microsecond'), repaired,
       (SELECT pos_base FROM meta) + pg_current_xact_id()::text::bigint
  FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bytea[], $6::timestamptz[], $7::bool[], $8::bigint[])
    AS t (host, episode, sha256, size, code_commit, at, repaired, n)
 ORDER BY host COLLATE "C", episode COLLATE "C"
ON CONFLICT (host, episode) DO UPDATE SET missing = false, repaired = true, pos = excluded.pos
 WHERE e.missing AND e.sha256 = excluded.sha256
RETURNING host, episode, received_at, repaired`

// insert commits a batch with one statement, and reads the rows that were there.
func (r *rows) insert(batch []*commit) error {
	order := map[*commit]int64{} // rows get the times in the order in which they were appended
	for n, c := range batch {
		order[c] = int64(n)
	}
	slices.SortFunc(batch, func(a, b *commit) int {
		return cmp.Or(cmp.Compare(a.entry.Host, b.entry.Host), cmp.Compare(a.entry.Episode, b.entry.Episode))
	})
	byKey := map[receiver.Key]*commit{}
	for _, c := range batch {
		c.have, c.created = c.entry, false
		byKey[c.entry.Key()] = c
	}
	return r.db.upload(context.Background(), func(ctx context.Context, c conn) error {
		args, err := columns(batch, order)
		if err != nil {
			return err
		}
		found, err := c.Query(ctx, insertRows, args...)
		if err != nil {
			return fmt.Errorf("commit rows: %w", err)
		}
		var k receiver.Key
		var at time.Time
		var repaired bool
		_, err = pgx.ForEachRow(found, []any{&k.Host, &k.Episode, &at, &repaired}, func() error {
			x := byKey[k]
			x.have.V, x.have.ReceivedAt, x.have.Repaired, x.created = 1, at.UTC(), repaired, true
			return nil
		})
		if err != nil {
			return fmt.Errorf("commit rows: %w", err)
		}
		for _, x := range batch {
			if x.created {
				continue
			}
			have, found, err := find(ctx, c, x.entry.Key(), true)
			if err = errors.Join(err, unless(found, x.entry.Key())); err != nil {
				return err
			}
			x.have = have
		}
		return nil
	})
}

func unless(found bool, k receiver.Key) error {
	if found {
		return nil
	}
	return fmt.Errorf("%w: the row of %s/%s was neither added nor found", receiver.ErrUnavailable, k.Host, k.Episode)
}

// columns returns the parameters of insertRows.
func columns(batch []*commit, order map[*commit]int64) ([]any, error) {
	var hosts, ids []string
	var digests, commits [][]byte
	var sizes, places []int64
	var at []*time.Time
	var repaired []bool
	for n, c := range batch {
		e := c.entry
		d, err1 := hex.DecodeString(string(e.Digest))
		code, err2 := hex.DecodeString(string(e.Commit))
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		hosts, ids = append(hosts, string(e.Host)), append(ids, string(e.Episode))
		digests, commits = append(digests, d), append(commits, code)
		sizes, places, repaired = append(sizes, e.Size), append(places, order[c]), append(repaired, e.Repaired)
		if at = append(at, nil); !c.at.IsZero() {
			at[n] = &c.at
		}
	}
	return []any{hosts, ids, digests, sizes, commits, at, repaired, places}, nil
}

// Find returns the row of an episode.
func (r *rows) Find(ctx context.Context, k receiver.Key) (e receiver.Entry, found bool, err error) {
	err = r.db.upload(ctx, func(ctx context.Context, c conn) (err error) {
		e, found, err = find(ctx, c, k, false)
		return err
	})
	return e, found, err
}

// Holders looks every host up with one request. LIMIT keeps the planner from reading all rows.
func (r *rows) Holders(ctx context.Context, hosts []ident.Host) (have []ident.Host, err error) {
	names := make([]string, len(hosts)) // which pgx can encode in every mode
	for i, h := range hosts {
		names[i] = string(h)
	}
	err = r.db.do(ctx, func(ctx context.Context, c conn) error {
		found, err := c.Query(ctx,
			"SELECT h FROM unnest($1::text[]) h CROSS JOIN LATERAL (SELECT FROM episodes e WHERE e.host = h LIMIT 1) x", names)
		if err != nil {
			return err
		}
		have, err = pgx.CollectRows(found, pgx.RowTo[ident.Host])
		return err
	})
	return have, err
}

// find returns the row of an episode. It finds one whose tarball is lost only if lost is set.
func find(ctx context.Context, c conn, k receiver.Key, lost bool) (e receiver.Entry, found bool, err error) {
	var digest, code []byte
	e = receiver.Entry{V: 1, Host: k.Host, Episode: k.Episode}
	err = c.QueryRow(ctx, `
SELECT e.sha256, e.size, e.code_commit, coalesce(a.received_at, e.received_at), e.repaired, a.host IS NOT NULL
  FROM episodes e LEFT JOIN archived a USING (host, episode)
 WHERE e.host = $1 AND e.episode = $2 AND (NOT e.missing OR a.host IS NOT NULL OR $3)`, k.Host, k.Episode, lost).
		Scan(&digest, &e.Size, &code, &e.ReceivedAt, &e.Repaired, &e.Archived)
	if errors.Is(err, pgx.ErrNoRows) {
		return receiver.Entry{}, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("look up episode: %w", err)
	}
	e.Digest, e.Commit, e.ReceivedAt = ident.Digest(hex.EncodeToString(digest)), ident.Commit(hex.EncodeToString(code)), e.ReceivedAt.UTC()
	return e, true, nil
}

// Archive records that tarballs were moved out.
func (r *rows) Archive(ctx context.Context, all []receiver.Entry) error {
	return r.archive(ctx, all, func(receiver.Entry) time.Time { return time.Time{} })
}

// archive is Archive at a time; zero is the database's.
func (r *rows) archive(ctx context.Context, all []receiver.Entry, when func(receiver.Entry) time.Time) error {
	var hosts, ids []string
	var at []*time.Time
	for _, e := range all {
		hosts, ids, at = append(hosts, string(e.Host)), append(ids, string(e.Episode)), append(at, nil)
		if t := when(e); !t.IsZero() {
			at[len(at)-1] = &t
		}
	}
	return r.db.do(ctx, func(ctx context.Context, c conn) error {
		_, err := c.Exec(ctx, `
INSERT INTO archived (host, episode, sha256, size, code_commit, received_at, pos)
SELECT host, episode, sha256, size, code_commit, coalesce(at, clock_timestamp()),
       (SELECT pos_base FROM meta) + pg_current_xact_id()::text::bigint
  FROM episodes JOIN unnest($1::text[], $2::text[], $3::timestamptz[]) AS t (host, episode, at) USING (host, episode)
 ORDER BY host, episode
ON CONFLICT DO NOTHING`, hosts, ids, at)
		if err != nil {
			return fmt.Errorf("record archived episodes: %w", err)
		}
		return nil
	})
}

// Lost records that a tarball is missing.
func (r *rows) Lost(ctx context.Context, k receiver.Key) error {
	return r.db.do(ctx, func(ctx context.Context, c conn) error {
		_, err := c.Exec(ctx, "UPDATE episodes SET missing = true WHERE host = $1 AND episode = $2 AND NOT missing", k.Host, k.Episode)
		return err
	})
}
