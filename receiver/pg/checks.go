package pg

import (
	"context"
	"fmt"
	"time"

	"cis490/internal/check"
	"cis490/internal/fault"
	"cis490/receiver"
)

const here = "on the receiver: "

// usable returns why episodes cannot be accepted: the database is away, read-only, of another
// schema, or commits before rows are durable.
func (d *db) usable() error {
	return d.do(context.Background(), func(ctx context.Context, c conn) error {
		n, err := schema(ctx, c)
		switch {
		case err != nil:
			return err
		case n < oldestSchema:
			return fault.Fix(fmt.Errorf("%w: the database has schema %d, this version needs %d", receiver.ErrUnready, n, oldestSchema), migrateFix)
		case n > newestSchema+1:
			return tooNew(n)
		}
		return durable(ctx, c)
	})
}

// durable returns an error if a commit may be lost in a crash, or cannot be made.
func durable(ctx context.Context, c conn) error {
	var away bool
	var commit, fsync, pages string
	err := c.QueryRow(ctx, `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
		current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes')`).
		Scan(&away, &commit, &fsync, &pages)
	switch {
	case err != nil:
		return err
	case away:
		return fmt.Errorf("%w: the database is read-only", receiver.ErrUnavailable)
	case commit == "off" || commit == "local" || fsync != "on" || pages != "on":
		return fault.Fix(fmt.Errorf("%w: a crash of the database loses rows: synchronous_commit is %s, fsync %s, full_page_writes %s",
			receiver.ErrUnready, commit, fsync, pages),
			`psql -c 'ALTER SYSTEM RESET ALL' -c 'SELECT pg_reload_conf()'   # or set these three to on`)
	}
	return nil
}

// sees reports whether this user sees what others do.
func sees(ctx context.Context, c conn) (may bool, err error) {
	err = c.QueryRow(ctx, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')").Scan(&may)
	return may, err
}

// checks returns doctor's checks of the database.
func checks(d *db) []check.Check {
	run := func(f func(context.Context, conn) check.Result) func(context.Context) check.Result {
		return func(context.Context) (r check.Result) {
			err := d.do(context.Background(), func(ctx context.Context, c conn) error { r = f(ctx, c); return nil })
			if err != nil {
				return check.Failf("%v", Explain(err))
			}
			return r
		}
	}
	seeing := func(f func(context.Context, conn) check.Result) func(context.Context) check.Result {
		return run(func(ctx context.Context, c conn) check.Result {
			switch may, err := sees(ctx, c); {
			case err != nil:
				return check.Failf("%v", err)
			case !may:
				return check.Skipf("serve's user may not see this: psql -c 'GRANT pg_monitor TO cis490_serve'")
			}
			return f(ctx, c)
		})
	}
	return []check.Check{
		{
			ID: "ledger.postgres", Title: "Database can be used", Severity: check.Hard,
			Fix: here + "sudo cis490 ledger status   # then fix what it names: the URL, the database, or its schema",
			Doc: "The database of [ledger] answers, can be written, has a schema that this version works with, and its commits are " +
				"durable. Otherwise every upload is answered 503, and hosts keep their episodes.",
			Run: func(context.Context) check.Result {
				began := time.Now()
				if err := d.usable(); err != nil {
					return check.Failf("%v", err)
				}
				return check.Passf("answers in %s", time.Since(began).Round(time.Millisecond))
			},
		},
		{
			ID: "ledger.partitions", Title: "Partitions of the next months exist", Severity: check.Soft,
			Fix: here + "sudo systemctl restart cis490-receiver   # makes them",
			Doc: "Partitions exist for each month until two months from now. Only rows of hosts whose clock is far off are in the " +
				"default partition.",
			Run: run(func(ctx context.Context, c conn) check.Result {
				var ahead bool
				var stray int64
				err := c.QueryRow(ctx, `
SELECT to_regclass('episodes_' || to_char(now() AT TIME ZONE 'UTC' + interval '2 months', 'YYYY_MM')) IS NOT NULL,
       (SELECT count(*) FROM (SELECT FROM episodes_default LIMIT 1000) d)`).Scan(&ahead, &stray)
				switch {
				case err != nil:
					return check.Failf("%v", err)
				case !ahead:
					return check.Warnf("the partition of the month after next is missing")
				}
				return check.Passf("made; %d rows are of other months", stray)
			}),
		},
		{
			ID: "ledger.standby", Title: "A standby has each row", Severity: check.Soft,
			Fix: here + "sudo cis490 ledger status   # names the database: set synchronous_standby_names there to a standby that streams",
			Doc: "A synchronous standby streams from the database, so a failover loses no row. An asynchronous one may lose the newest rows, " +
				"whose tarballs stay in the bucket.",
			Run: seeing(func(ctx context.Context, c conn) check.Result {
				var all, sync int
				err := c.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum'))
					FROM pg_stat_replication`).Scan(&all, &sync)
				switch {
				case err != nil:
					return check.Failf("%v", err)
				case all == 0:
					return check.Warnf("there is no standby: if the database's disk is lost, its rows are")
				case sync == 0:
					return check.Warnf("no standby is synchronous")
				}
				return check.Passf("%d synchronous", sync)
			}),
		},
		{
			ID: "ledger.feed", Title: "Rows are visible to followers", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only ledger.feed   # names the transaction and what ends it",
			Doc: "No writing transaction, in any database of the server, is open for longer than a minute (a warning) or ten minutes " +
				"(a failure). Until such a transaction ends, pages and the catalogue do not show newer episodes, although they are " +
				"stored. The check names the cause: a forgotten session, a long job, or an abandoned prepared transaction.",
			Run: run(func(ctx context.Context, c conn) check.Result {
				lag, err := lagOf(ctx, c)
				var may bool
				var w writer
				if err == nil {
					may, err = sees(ctx, c)
				}
				if err == nil && may {
					w, err = oldestWriter(ctx, c)
				}
				if err != nil {
					return check.Failf("%v", err)
				}
				return judgeFeed(lag, w, may)
			}),
		},
	}
}

// Checks returns the checks of a receiver without a database. They pass.
func Checks() []check.Check {
	all := checks(&db{})
	for i := range all {
		all[i].Run = func(context.Context) check.Result { return check.Passf("not used: rows are in data_dir") }
	}
	return all
}
