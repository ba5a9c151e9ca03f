package pg

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/internal/check"
	"cis490/internal/machine"
)

// A transaction that is open for feedLate makes the rows late, and for feedStuck is forgotten.
const (
	feedLate  = time.Minute
	feedStuck = 10 * time.Minute
)

// lag returns how long ago the oldest row was written that followers do not see yet.
func (d *db) lag() (lag time.Duration, err error) {
	err = d.do(context.Background(), func(ctx context.Context, c conn) error { lag, err = lagOf(ctx, c); return err })
	return lag, err
}

func lagOf(ctx context.Context, c conn) (time.Duration, error) {
	var seconds float64
	err := c.QueryRow(ctx, `SELECT greatest(0, extract(epoch FROM clock_timestamp() - received_at))::float8 FROM index_rows
		WHERE pos >= (SELECT pos_base FROM meta) + pg_snapshot_xmin(pg_current_snapshot())::text::bigint ORDER BY pos LIMIT 1`).Scan(&seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return time.Duration(seconds * float64(time.Second)), err
}

// writer is the oldest transaction of the server that wrote, or may have, and has not ended.
// Followers see no rows of later transactions.
type writer struct {
	open                             time.Duration // 0: there is none
	pid                              int
	user, database, app, from, state string
	prepared                         string // its name, if it waits for COMMIT PREPARED; then there is no process
	server                           string // address of the database's machine
}

func oldestWriter(ctx context.Context, c conn) (w writer, err error) {
	var seconds float64
	err = c.QueryRow(ctx, `
SELECT extract(epoch FROM clock_timestamp() - since)::float8, pid, usename, datname, app, client, state, gid,
       coalesce(host(inet_server_addr()), 'a local socket')
  FROM (SELECT xact_start AS since, pid, coalesce(usename, '') AS usename, coalesce(datname, '') AS datname, application_name AS app,
               coalesce(host(client_addr), 'the same machine') AS client, coalesce(state, '') AS state, '' AS gid
          FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
         UNION ALL SELECT prepared, 0, owner, database, '', '', '', gid FROM pg_prepared_xacts) open
 ORDER BY since LIMIT 1`).Scan(&seconds, &w.pid, &w.user, &w.database, &w.app, &w.from, &w.state, &w.prepared, &w.server)
	if errors.Is(err, pgx.ErrNoRows) {
		return w, nil
	}
	w.open = time.Duration(seconds * float64(time.Second))
	return w, err
}

// String describes the transaction. Its texts are of any program that may connect.
func (w writer) String() string {
	text := func(s string) string { return check.Sanitize(s, 60) }
	if w.prepared != "" {
		return fmt.Sprintf("the prepared transaction %q of %s in database %s", text(w.prepared), text(w.user), text(w.database))
	}
	return fmt.Sprintf("process %d (application %q, user %s, database %s, from %s, %s)",
		w.pid, text(w.app), text(w.user), text(w.database), text(w.from), text(w.state))
}

// plainName is what a fix may have in quotes.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)

// fix ends the transaction.
func (w writer) fix() string {
	on := "on the database's machine, " + w.server + ": "
	switch {
	case w.prepared == "":
		return on + fmt.Sprintf("sudo -u postgres psql -c 'SELECT pg_terminate_backend(%d)'   # its changes are rolled back", w.pid)
	case !plainName.MatchString(w.prepared) || !plainName.MatchString(w.database):
		return on + "sudo -u postgres psql -c 'SELECT * FROM pg_prepared_xacts'   # then ROLLBACK PREPARED, in its database"
	}
	return on + fmt.Sprintf(`sudo -u postgres psql -c "ROLLBACK PREPARED '%s'" %s   # or COMMIT PREPARED`, w.prepared, w.database)
}

// judgeFeed judges how late followers see rows.
func judgeFeed(lag time.Duration, w writer, may bool) check.Result {
	late := max(lag, w.open)
	switch {
	case !may && lag < feedLate:
		return check.Skipf("serve's user may not see other transactions: psql -c 'GRANT pg_monitor TO cis490_serve'")
	case !may:
		return check.Warnf("the rows of the last %s are not shown yet, because a transaction is open", machine.HumanDuration(lag)).
			WithFix("on the database's machine: sudo -u postgres psql -c 'GRANT pg_monitor TO cis490_serve'   # then doctor names the transaction")
	case late < feedLate || w.open == 0:
		return check.Passf("rows are shown at once")
	}
	detail := fmt.Sprintf("%s has a transaction open for %s; pages and the catalogue show no rows that were written since then",
		w, machine.HumanDuration(w.open))
	if late < feedStuck {
		return check.Warnf("%s", detail).WithFix(w.fix())
	}
	return check.Failf("%s", detail).WithFix(w.fix())
}
