package pg

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"cis490/internal/fault"
	"cis490/receiver"
)

//go:embed migrations/*.sql
var migrations embed.FS

// The schemas that this version works with. Schemas grow first, then all receivers are updated,
// then what is unused goes: so a version works with its own schema and the next one.
const (
	oldestSchema = 2
	newestSchema = 3
)

const migrateFix = "sudo cis490 ledger migrate"

// Status is the state of a database.
type Status struct {
	Schema   int64  `json:"schema"` // 0: empty
	Newest   int64  `json:"newest"` // of this version of the program
	Server   string `json:"server"`
	StoreID  string `json:"store_id,omitempty"`
	Episodes int64  `json:"episodes"` // an estimate
}

// database opens a database for goose, which needs database/sql.
func database(url string) (*sql.DB, error) {
	c, err := configure(url, false)
	if err != nil {
		return nil, err
	}
	delete(c.ConnConfig.RuntimeParams, "statement_timeout") // a migration may take long
	c.ConnConfig.OnNotice = nil
	return stdlib.OpenDB(*c.ConnConfig), nil
}

// Migrate brings a database to the newest schema, and gives serve's user its rights. A new one
// gets the id of the store, if that is not empty. It returns the schemas before and after.
func Migrate(ctx context.Context, url, serveUser, storeID string) (from, to int64, err error) {
	d, err := database(url)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, 0, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, d, files)
	if err != nil {
		return 0, 0, fmt.Errorf("read the migrations: %w", err)
	}
	if from, err = p.GetDBVersion(ctx); err != nil {
		return 0, 0, explained(fmt.Errorf("read the schema: %w", err))
	}
	if from > newestSchema {
		return from, from, tooNew(from)
	}
	if _, err := p.Up(ctx); err != nil {
		return from, from, fault.Fix(fmt.Errorf("migrate: %w", err),
			"psql -c 'ALTER ROLE USER CREATEROLE'   # as a superuser, if it is about roles; USER owns the database and has to be the URL's")
	}
	if to, err = p.GetDBVersion(ctx); err != nil {
		return from, to, err
	}
	if from == 0 && storeID != "" {
		if _, err := d.ExecContext(ctx, "UPDATE meta SET store_id = $1", storeID); err != nil {
			return from, to, err
		}
	}
	if serveUser != "" {
		_, err = d.ExecContext(ctx, "GRANT cis490_serve TO "+pgx.Identifier{serveUser}.Sanitize())
	}
	return from, to, err
}

// GrantAuthority gives a user the rights of bootstrap. The URL is of the database's owner.
func GrantAuthority(ctx context.Context, url, user string) (err error) {
	d, err := database(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	_, err = d.ExecContext(ctx, "GRANT cis490_authority TO "+pgx.Identifier{user}.Sanitize())
	return explained(err)
}

func explained(err error) error { return Explain(answered(err)) }

func tooNew(schema int64) error {
	err := fmt.Errorf("%w: the database has schema %d, this version works with %d to %d",
		receiver.ErrUnready, schema, oldestSchema, newestSchema+1)
	return fault.Fix(err, "sudo cis490 autoupdate   # brings a newer version")
}

// ReadStatus reads the state of a database.
func ReadStatus(ctx context.Context, url string) (s Status, err error) {
	c, err := configure(url, true)
	if err != nil {
		return s, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return s, err
	}
	defer pool.Close()
	s.Newest = newestSchema
	err = pool.QueryRow(ctx, "SELECT current_setting('server_version')").Scan(&s.Server)
	if err != nil {
		return s, explained(err)
	}
	if s.Schema, err = schema(ctx, pool); err != nil || s.Schema == 0 {
		return s, explained(err)
	}
	// reltuples of a partitioned table is unknown until it is analyzed.
	err = pool.QueryRow(ctx, `SELECT store_id, (SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'episodes'::regclass) FROM meta`).
		Scan(&s.StoreID, &s.Episodes)
	return s, explained(err)
}

// schema returns the schema of a database; 0: none.
func schema(ctx context.Context, c conn) (n int64, err error) {
	var has bool
	if err := c.QueryRow(ctx, "SELECT to_regclass('goose_db_version') IS NOT NULL").Scan(&has); err != nil || !has {
		return 0, err
	}
	return n, c.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&n)
}

// User returns the user of a database's URL.
func User(url string) (string, error) {
	c, err := configure(url, false)
	if err != nil {
		return "", err
	}
	return c.ConnConfig.User, nil
}
