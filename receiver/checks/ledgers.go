package checks

import (
	"context"
	"errors"
	"slices"

	"cis490/internal/check"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/pg"
	"cis490/receiver/s3"
)

// sample is how many of the newest rows are compared with their tarballs.
const sample = 200

func (r *registry) ledgers() []check.Check {
	own := append(r.storage("ledger.index", "ledger.alerts", "files.owner"), r.outside(s3.Checks(nil, nil))...)
	return append(append(own, r.outside(pg.Checks())...), []check.Check{
		{
			ID: "rows.files", Title: "Rows have their files", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --deep   # lists all; the host of a missing file sends it again when it reconciles",
			Doc: "The newest 200 rows of the index name tarballs that are there, of the size that the row has; --deep compares all " +
				"rows, and counts files without one.",
			Run: r.needsConfig(r.rows),
		},
		{
			ID: "clock.ledger", Title: "Clock is not behind the index", Severity: check.Hard,
			Fix: here + machine.ClockFix,
			Doc: "The time of the last row of the index is not in the future. If it is, this clock went back: it is wrong now, or it " +
				"was ahead when the row was written. Uploads continue meanwhile. If the clock is synchronized, the time of the row is " +
				"the wrong one, and the check passes.",
			Run: r.needsConfig(r.clockOfIndex),
		},
	}...)
}

// outside returns the checks of an object store or a database. A receiver that has neither
// gets the checks in none.
func (r *registry) outside(none []check.Check) []check.Check {
	ids := make([]string, 0, len(none))
	for _, c := range none {
		ids = append(ids, c.ID)
	}
	if some := r.storage(ids...); len(some) > 0 {
		return some
	}
	return none
}

// storage returns those of the backend's own checks that have these ids.
func (r *registry) storage(ids ...string) []check.Check {
	var some []check.Check
	for _, c := range r.Backend.Checks(r.User, int64(r.Config.Limits.DiskReserve)) {
		if slices.Contains(ids, c.ID) {
			c.Run = r.needsConfig(c.Run)
			some = append(some, c)
		}
	}
	return some
}

func (r *registry) clockOfIndex(ctx context.Context) check.Result {
	var last receiver.Entry
	var err error
	ok := false
	for found, bad := range r.Backend.Index.Before(receiver.Query{}) {
		if last, ok, err = found.Row, found.Match, bad; ok || err != nil {
			break
		}
	}
	switch at := plain.Time(last.When()); {
	case err != nil:
		return machine.Unreadable(err)
	case !ok:
		return check.Passf("no rows yet")
	case !machine.Future(last.When(), r.Now()):
		return check.Passf("last row at %s", at)
	case r.Synced(ctx).Status == check.Pass:
		return check.Passf("the last row is from %s, when this clock was ahead; it is synchronised now", at)
	default:
		return check.Failf("the last row is from %s, it is %s now", at, plain.Time(r.Now()))
	}
}

// rows compares rows of the index with tarballs: the newest, or all.
func (r *registry) rows(ctx context.Context) check.Result {
	ctx, cancel := context.WithTimeout(ctx, check.Timeout*8/10) // a check that does not end fails
	defer cancel()
	newest := sample
	if r.Deep {
		newest = 0
	}
	c, err := r.Backend.Episodes.Check(ctx, newest, r.Now())
	switch {
	case ctx.Err() != nil:
		return check.Skipf("timed out after %d rows", c.Rows)
	case errors.Is(err, receiver.ErrBusy), errors.Is(err, receiver.ErrUnready), errors.Is(err, receiver.ErrFull):
		return check.Skipf("the storage does not answer now: %v", err) // as receiver.ready and store.bucket report
	case err != nil:
		return machine.Unreadable(err)
	case c.Lost > 0:
		return check.Failf("%d of %d rows have no file of the right size, for example %s", c.Lost, c.Rows, c.Example)
	case c.Damaged > 0:
		return check.Warnf("%d rows cannot be decoded, %d are correct", c.Damaged, c.Rows)
	case c.Unindexed != "":
		return check.Warnf("%s: serve adds the missing rows at its next start", c.Unindexed)
	case r.Deep:
		return check.Passf("%d rows and their files agree", c.Rows)
	}
	return check.Passf("%d rows have their files", c.Rows)
}
