package pg

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"cis490/internal/fault"
	"cis490/receiver"
)

// records are the rows of the authority's files.
type records struct {
	db   *db
	from string // the table or view to read

	mu    sync.Mutex
	known bool   // the table exists: it may be of a newer schema
	held  *lease // of the authority
}

// OpenRecords returns what the authority recorded. Of o it uses neither Base nor Dir.
func OpenRecords(o Options) receiver.Records {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Dir = ""
	return &records{db: &db{o: o, leases: map[receiver.Work]*lease{}}, from: "authority_rows"}
}

// Since reads a page of rows.
func (r *records) Since(id int64) (page []receiver.Record, err error) {
	err = r.db.do(context.Background(), func(ctx context.Context, c conn) error {
		r.mu.Lock()
		known := r.known
		r.mu.Unlock()
		if !known {
			if err := c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", r.from).Scan(&known); err != nil || !known {
				return err
			}
			r.mu.Lock()
			r.known = true
			r.mu.Unlock()
		}
		found, err := c.Query(ctx, "SELECT id, file, line FROM "+r.from+" WHERE id > $1 ORDER BY id LIMIT $2", id, pageRows)
		if err != nil {
			return err
		}
		page, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (x receiver.Record, err error) {
			return x, row.Scan(&x.ID, &x.File, &x.Line)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what the authority recorded: %w", err)
	}
	return page, nil
}

// Append adds rows in one transaction, which the lease fences. A lock lets one append at a time,
// so ids are in the order of commits.
func (r *records) Append(all []receiver.Record) error {
	l, err := r.lease()
	if err != nil {
		return err
	}
	var files, lines []string
	for _, x := range all {
		files, lines = append(files, x.File), append(lines, x.Line)
	}
	err = r.db.tx("", func(ctx context.Context, c conn) error {
		if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1::int, hashtext('authority_rows'))", lockClass); err != nil {
			return err
		}
		if err := l.fence(ctx, c); err != nil {
			return err
		}
		_, err := c.Exec(ctx, `INSERT INTO authority_rows (file, line)
			SELECT file, line FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (file, line, n) ORDER BY n`, files, lines)
		return err
	})
	if err != nil {
		return fmt.Errorf("record in the database: %w", err)
	}
	return nil
}

// authorityLease is the lease of the authority, or that of its standby.
type authorityLease struct {
	*lease
	records *records
}

// Lease takes a lease for some seconds, and renews it.
func (r *records) Lease(w receiver.Work) (io.Closer, error) {
	if err := r.db.usable(); err != nil {
		return nil, err
	}
	l := &lease{db: r.db, table: authorityTable, work: w, base: nothing{}}
	if err := l.begin(); err != nil {
		return nil, err
	}
	if w == receiver.Publishing {
		r.mu.Lock()
		r.held = l
		r.mu.Unlock()
	}
	return authorityLease{l, r}, nil
}

// Close ends the lease. Rows can be appended no more.
func (l authorityLease) Close() error {
	l.records.mu.Lock()
	if l.records.held == l.lease {
		l.records.held = nil
	}
	l.records.mu.Unlock()
	return l.lease.Close()
}

func (r *records) lease() (*lease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		return nil, fmt.Errorf("%w: this machine does not have the authority", receiver.ErrLeased)
	}
	return r.held, nil
}

// Holds compares the token of the lease.
func (r *records) Holds() error {
	l, err := r.lease()
	if err != nil {
		return err
	}
	return r.db.tx("", l.fence)
}

// Alone looks for the lease that serve has while its authority's rows are in files.
func (r *records) Alone() error {
	holders, err := r.db.holders(leaseTable)
	holder := holders[receiver.Publishing]
	if err == nil && holder != "" && !strings.HasPrefix(holder+" ", r.db.holder()+" ") {
		err = fault.Fix(fmt.Errorf("%w: %s has the authority in its files", receiver.ErrLeased, holder),
			"sudo editor /etc/cis490/receiver.toml   # there, first: [authority] url_file, as in docs/growing.md")
	}
	return err
}

// Leases reads who has the authority, and who stands by.
func (r *records) Leases() (map[receiver.Work]string, error) { return r.db.holders(authorityTable) }
