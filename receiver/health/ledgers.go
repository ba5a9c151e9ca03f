package health

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/receiver"
)

// sample is how many of the newest rows are compared with their files.
const sample = 200

func (r *registry) ledgers() []check.Check {
	own := r.owned("index.jsonl", "alerts.jsonl", "rejections.jsonl", "contacts.json", receiver.FleetCheckDoc, "store_id")
	return []check.Check{
		{
			ID: "ledger.index", Title: "Index can be appended to", Severity: check.Hard,
			Fix: here + "sudo chown " + r.userOr("cis490") + ": " + r.data("index.jsonl"),
			Doc: "index.jsonl is a regular file of serve's user. Where a tool run as root has made it root's, serve answers 5xx and hosts keep their episodes.",
			Run: r.needsConfig(r.appendable("index.jsonl")), Repair: machine.Tighten(own[:1]),
		},
		{
			ID: "ledger.alerts", Title: "Alerts can be written", Severity: check.Hard,
			Fix: here + "sudo chown " + r.userOr("cis490") + ": " + r.data("alerts.jsonl"),
			Doc: "alerts.jsonl is a regular file of fleet-check's user.",
			Run: r.needsConfig(r.appendable("alerts.jsonl")), Repair: machine.Tighten(own[1:2]),
		},
		{
			ID: "files.owner", Title: "Data belongs to serve's user", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --fix   # or: sudo cis490 install receiver",
			Doc: "The other files that serve and fleet-check write are theirs.",
			Run: r.needsConfig(machine.Kept(append(own[2:], r.folders()...))), Repair: machine.Tighten(own[2:]),
		},
		{
			ID: "rows.files", Title: "Rows have their files", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --deep   # tells all; a file that is gone comes back when its host reconciles",
			Doc: "The newest 200 rows of the index name tarballs that are there, of the size that the row has; --deep compares all rows, and counts files without one.",
			Run: r.needsConfig(r.rows),
		},
		{
			ID: "clock.ledger", Title: "Clock is not behind the index", Severity: check.Hard,
			Fix: here + "sudo timedatectl set-ntp true   # or set the clock by hand: sudo date -s '…'",
			Doc: "The last row of the index was not written later than now. If it was, this clock went back: it is wrong now, or it was ahead then. " +
				"Nothing waits for that time; where something keeps the clock right, the row's time is the wrong one, and that is no failure.",
			Run: r.needsConfig(r.clockOfIndex),
		},
	}
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
	switch at := last.When().UTC().Format(time.RFC3339); {
	case err != nil:
		return machine.Unreadable(err)
	case !ok:
		return check.Passf("no row yet")
	case !machine.Future(last.When(), r.Now()):
		return check.Passf("last row at %s", at)
	case r.Synced(ctx).Status == check.Pass:
		return check.Passf("the last row is from %s, when this clock was ahead; it is synchronised now", at)
	default:
		return check.Failf("the last row is from %s, it is %s now", at, r.Now().UTC().Format(time.RFC3339))
	}
}

func (r *registry) userOr(name string) string {
	if r.User != "" {
		return r.User
	}
	return name
}

func (r *registry) owned(names ...string) []machine.Want {
	var all []machine.Want
	for _, n := range names {
		all = append(all, machine.Want{Path: r.data(n), Owner: r.User, Most: 0o644, Need: 0o600})
	}
	return all
}

func (r *registry) folders() []machine.Want {
	return []machine.Want{
		{Path: r.Config.DataDir, Dir: true, Owner: r.User, Most: 0o755, Need: 0o700},
		{Path: r.data("episodes"), Dir: true, Owner: r.User, Most: 0o755, Need: 0o700},
		{Path: r.data("staged"), Dir: true, Owner: r.User, Most: 0o755, Need: 0o700},
		{Path: r.data("host-health"), Dir: true, Owner: r.User, Most: 0o755, Need: 0o700},
	}
}

// appendable judges owner and kind by name; as the owner it also opens the file
// for appending, which no reading of modes can replace (read-only disks,
// attributes, sandboxes). It writes nothing.
func (r *registry) appendable(name string) func(context.Context) check.Result {
	kept := machine.Kept(r.owned(name))
	return func(ctx context.Context) check.Result {
		path := r.data(name)
		if _, err := (disk.OS{}).Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return check.Passf("%s is not there yet", path)
		}
		if got := kept(ctx); got.Status != check.Pass {
			return got
		}
		if os.Geteuid() == 0 || !mine(path) {
			return check.Passf("%s is its owner's", path)
		}
		f, err := disk.OS{}.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return check.Failf("%v", err)
		}
		if err := f.Close(); err != nil {
			return check.Failf("%v", err)
		}
		return check.Passf("%s can be appended to", path)
	}
}

// rows compares rows of the index with tarballs, the newest or all.
func (r *registry) rows(ctx context.Context) check.Result {
	newest := sample
	if r.Deep {
		newest = 0
	}
	c, err := r.Backend.Episodes.Check(ctx, newest, r.Now())
	switch {
	case ctx.Err() != nil:
		return check.Skipf("not done in time: %d rows compared", c.Rows)
	case err != nil:
		return machine.Unreadable(err)
	case c.Lost > 0:
		return check.Failf("%d of %d rows have no file of their size, such as %s", c.Lost, c.Rows, c.Example)
	case c.Damaged > 0:
		return check.Warnf("%d rows cannot be read, %d are as they should be", c.Damaged, c.Rows)
	case c.Unindexed != "":
		return check.Warnf("%s: serve adds the missing rows at its next start", c.Unindexed)
	case r.Deep:
		return check.Passf("%d rows and their files agree", c.Rows)
	}
	return check.Passf("%d rows have their files", c.Rows)
}
