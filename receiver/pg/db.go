package pg

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"cis490/internal/dial"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver"
)

// conns is the most connections of a process.
const conns = 16

// warned is the key under which a connection notes a warning of the server.
const warned = "cis490.warned"

// db is the connection to the database.
type db struct {
	o Options

	mu     sync.Mutex
	pool   *pgxpool.Pool // nil: not opened yet
	url    string
	leases map[receiver.Work]*lease // those that this process has
	// up ends when the database becomes silent, by a call of down.
	up   context.Context //nolint:containedctx // of uploads, which share it
	down context.CancelCauseFunc
}

// conn runs statements: a connection or a transaction.
type conn interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ReadURL reads the URL of a database from a file. Its errors do not contain the URL.
func ReadURL(fsys disk.FS, path string) (string, error) {
	b, err := disk.ReadFile(fsys, path, disk.Small)
	url := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return "", fault.Fix(fmt.Errorf("%w: read the URL of the database: %w", receiver.ErrUnready, err),
			"sudo install -m 640 -g cis490 FILE "+path+"   # FILE has the line postgres://USER:PASSWORD@HOST/DATABASE")
	case !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") || strings.ContainsAny(url, " \n"):
		return "", fault.Fix(fmt.Errorf("%w: %s does not have one line postgres://USER:PASSWORD@HOST/DATABASE", receiver.ErrUnready, path),
			"sudo editor "+path)
	}
	return url, nil
}

// configure parses a URL. With a pooler nothing depends on the session.
func configure(url string, pooler bool) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(url)
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fault.Fix(fmt.Errorf("%w: the URL of the database names a file: %w", receiver.ErrUnready, file), "ls -l "+file.Path)
	}
	if err != nil { // its text may contain parts of the URL
		return nil, fault.Fix(fmt.Errorf("%w: the URL of the database cannot be parsed", receiver.ErrUnready),
			"sudo cis490 config check   # then fix the file that url_file names: postgres://USER:PASSWORD@HOST/DATABASE")
	}
	c.MaxConns, c.MaxConnIdleTime, c.PingTimeout = conns, time.Minute, dial.GoneAfter
	cc := c.ConnConfig
	if err := encrypted(&cc.Config); err != nil {
		return nil, err
	}
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = dial.GoneAfter
	}
	if cc.ValidateConnect == nil { // several hosts: the one that can be written
		cc.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cc.DialFunc = dial.Context
	cc.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized != "NOTICE" && n.SeverityUnlocalized != "INFO" {
			c.CustomData()[warned] = n.Message
		}
	}
	if pooler {
		cc.DefaultQueryExecMode = pgx.QueryExecModeExec
		return c, nil
	}
	for key, value := range map[string]string{
		"application_name": "cis490", "statement_timeout": "15s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "15s",
		"tcp_user_timeout": "10s",
	} {
		if _, set := cc.RuntimeParams[key]; !set {
			cc.RuntimeParams[key] = value
		}
	}
	return c, nil
}

// encrypted refuses connections over a network without TLS.
func encrypted(c *pgconn.Config) error {
	plain := ""
	check := func(host string, over *tls.Config) {
		if ip := net.ParseIP(host); over == nil && !strings.HasPrefix(host, "/") && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			plain = host
		}
	}
	check(c.Host, c.TLSConfig)
	for _, f := range c.Fallbacks {
		check(f.Host, f.TLSConfig)
	}
	if plain == "" {
		return nil
	}
	return fault.Fix(fmt.Errorf("%w: the connection to the database on %s would not be encrypted", receiver.ErrUnready, plain),
		"sudo cis490 config check   # then append ?sslmode=verify-full&sslrootcert=FILE to the URL in the file that [ledger] url_file names")
}

// get returns the pool. It reads the URL again when it cannot connect with the old one.
func (d *db) get() (*pgxpool.Pool, error) {
	url, err := ReadURL(d.o.FS, d.o.URLFile)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pool != nil && (err != nil || url == d.url) { // connections outlive their file
		return d.pool, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := configure(url, d.o.Pooler)
	if err != nil {
		return nil, err
	}
	if d.pool != nil {
		go d.pool.Close() // waits for calls in progress
	}
	d.pool, err = pgxpool.NewWithConfig(context.Background(), c)
	d.url = url
	return d.pool, err
}

// reset closes the connections. The next call opens new ones.
func (d *db) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pool != nil {
		d.pool.Close()
	}
	d.pool = nil
}

// do runs statements that each commit alone.
func (d *db) do(ctx context.Context, call func(context.Context, conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.with(ctx, func(c *pgxpool.Conn) error { return call(ctx, c) })
}

// tx runs statements in one transaction. If this process has the lease of a kind of work, the
// transaction fails once another process took it.
func (d *db) tx(work receiver.Work, call func(context.Context, conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return d.with(ctx, func(c *pgxpool.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if err := d.fence(ctx, tx, work); err != nil {
				return err
			}
			return call(ctx, tx)
		})
	})
}

// with runs a call on a connection. A connection that failed or warned is not used again.
func (d *db) with(ctx context.Context, call func(*pgxpool.Conn) error) error {
	pool, err := d.get()
	if err != nil {
		return err
	}
	c, err := pool.Acquire(ctx)
	if err != nil {
		return answered(fmt.Errorf("connect to the database: %w", err))
	}
	defer c.Release()
	notes := c.Conn().PgConn().CustomData()
	delete(notes, warned) // of an earlier call, or of the connection's start
	err = call(c)
	if note := notes[warned]; note != nil {
		// A commit that warned is not durable as it should be.
		err = errors.Join(err, fmt.Errorf("%w: the server warned: %v", receiver.ErrUnavailable, note))
	}
	if errors.Is(err, receiver.ErrUnavailable) {
		_ = c.Conn().Close(ctx) // nothing is in progress that matters
	}
	return answered(err)
}

// answered converts an error of the database to one of package receiver. An error whose outcome
// is not known is ErrUnavailable.
func answered(err error) error {
	var pgErr *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, receiver.ErrUnavailable), errors.Is(err, receiver.ErrUnready), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, receiver.ErrLeased), errors.Is(err, receiver.ErrCursor), errors.Is(err, receiver.ErrChanged), errors.Is(err, errTooLarge):
		return err
	case errors.As(err, &pgErr):
		switch pgErr.Code[:2] {
		case "28", "3D", "42": // authentication, no such database, syntax or rights
			return fmt.Errorf("%w: %w", receiver.ErrUnready, err)
		case "22", "23": // data, constraints
			return err
		}
	}
	return fmt.Errorf("%w: %w", receiver.ErrUnavailable, err)
}

// Explain adds the fix to an error of the database.
func Explain(err error) error {
	if err == nil || fault.FixOf(err) != "" {
		return err
	}
	code := ""
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		code = e.Code
	}
	switch {
	case code == "42P01": // no such table
		return fault.Fix(err, migrateFix)
	case strings.HasPrefix(code, "28"), strings.HasPrefix(code, "3D"):
		return fault.Fix(err,
			"sudo cis490 doctor --only ledger.postgres   # then fix the file that [ledger] url_file names, or the database's pg_hba.conf")
	case strings.HasPrefix(code, "42"):
		return fault.Fix(err, `psql -c 'GRANT cis490_serve TO USER'   # as the database's owner; USER is the one in [ledger] url_file`)
	case strings.HasPrefix(code, "53"):
		return fault.Fix(err, "df -h   # on the database's machine; or raise max_connections there")
	case errors.Is(err, receiver.ErrUnavailable):
		return fault.Fix(err,
			"sudo cis490 doctor --only ledger.postgres   # is the database up, and reachable from here? hosts keep their episodes meanwhile")
	}
	return err
}
