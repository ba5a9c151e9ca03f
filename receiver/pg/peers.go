package pg

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/receiver"
)

// peers are what the receivers publish, each value a row.
type peers struct{ db *db }

// Self returns the name in leases.
func (p peers) Self() string { return p.db.holder() }

// Publish replaces rows of this receiver in one transaction.
func (p peers) Publish(values map[string][]byte) error {
	var keys, gone []string
	var contents [][]byte
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] == nil {
			gone = append(gone, key)
			continue
		}
		keys, contents = append(keys, key), append(contents, values[key])
	}
	err := p.db.tx("", func(ctx context.Context, c conn) error {
		if len(gone) > 0 {
			if _, err := c.Exec(ctx, "DELETE FROM peers WHERE key = ANY ($1)", gone); err != nil {
				return err
			}
		}
		if len(keys) == 0 {
			return nil
		}
		_, err := c.Exec(ctx, `
INSERT INTO peers (receiver, key, content, saved, pos)
SELECT $1, key, content, clock_timestamp(), (SELECT pos_base FROM meta) + pg_current_xact_id()::text::bigint
  FROM unnest($2::text[], $3::bytea[]) AS t (key, content)
ON CONFLICT (receiver, key) DO UPDATE SET content = excluded.content, saved = excluded.saved, pos = excluded.pos`,
			p.Self(), keys, contents)
		return err
	})
	if err != nil {
		return fmt.Errorf("publish for the other receivers: %w", err)
	}
	return nil
}

// Follow returns a reader by position.
func (p peers) Follow(prefix string) receiver.PeerReader {
	return &peerReader{db: p.db, prefix: prefix}
}

// Forget deletes rows.
func (p peers) Forget(name string, keys ...string) (found bool, err error) {
	err = p.db.do(context.Background(), func(ctx context.Context, c conn) error {
		tag, err := c.Exec(ctx, "DELETE FROM peers WHERE receiver = $1 AND key = ANY ($2)", name, keys)
		found = tag.RowsAffected() > 0
		return err
	})
	return found, err
}

// Leases reads the leases that did not end.
func (p peers) Leases() (map[receiver.Work]string, error) {
	return p.db.holders(leaseTable, authorityTable)
}

// holders reads the leases of tables that did not end. The later table counts.
func (d *db) holders(tables ...string) (all map[receiver.Work]string, err error) {
	err = d.do(context.Background(), func(ctx context.Context, c conn) error {
		all = map[receiver.Work]string{}
		for _, table := range tables {
			var has bool // the authority's table is of a newer schema
			if err := c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&has); err != nil || !has {
				return err
			}
			found, err := c.Query(ctx, "SELECT name, holder FROM "+table+" WHERE until > now()")
			if err != nil {
				return err
			}
			var work, holder string
			_, err = pgx.ForEachRow(found, []any{&work, &holder}, func() error {
				all[receiver.Work(work)] = holder
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	return all, nil
}

// peerReader reads rows from a position on, below which no transaction was open at the last
// Read. So none is missed, and no open transaction holds the reader up.
type peerReader struct {
	db     *db
	prefix string
	epoch  string // of the positions; empty: not begun
	pos    int64
}

// Read reads the rows that changed.
func (r *peerReader) Read(begin func(), add func(receiver.Published)) (now time.Time, err error) {
	next, from := *r, r.pos
	var all []receiver.Published
	err = r.db.do(context.Background(), func(ctx context.Context, c conn) error {
		all = nil
		err := c.QueryRow(ctx, "SELECT "+epochNow+`, clock_timestamp(),
			(SELECT pos_base FROM meta) + pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&next.epoch, &now, &next.pos)
		if err != nil {
			return err
		}
		if next.epoch != r.epoch {
			from = 0
		}
		found, err := c.Query(ctx, "SELECT receiver, key, content, saved FROM peers WHERE pos >= $1 AND starts_with(key, $2)", from, r.prefix)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (p receiver.Published, err error) {
			return p, row.Scan(&p.Receiver, &p.Key, &p.Content, &p.Saved)
		})
		return err
	})
	if err != nil {
		return now, fmt.Errorf("read what receivers publish: %w", err)
	}
	if next.epoch != r.epoch {
		begin()
	}
	for _, p := range all {
		add(p)
	}
	*r = next
	return now, nil
}
