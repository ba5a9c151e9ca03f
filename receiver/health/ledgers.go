package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ledger"
	"cis490/internal/machine"
	"cis490/receiver/fleet"
	"cis490/receiver/index"
	"cis490/receiver/store"
)

// sample is how many of the newest rows are compared with their files.
const sample = 200

func (r *receiver) ledgers() []check.Check {
	own := r.owned("index.jsonl", "alerts.jsonl", "rejections.jsonl", "contacts.json", fleet.RunFile, "store_id")
	return []check.Check{
		{
			ID: "ledger.index", Title: "Index can be appended to", Severity: check.Hard,
			Fix: here + "sudo chown " + r.userOr("cis490") + ": " + r.data("index.jsonl") + "",
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

func (r *receiver) clockOfIndex(ctx context.Context) check.Result {
	last, ok, err := ledger.Last(disk.OS{}, r.data(index.File), index.TimeKey)
	switch at := last.Clock().UTC().Format(time.RFC3339); {
	case err != nil:
		return machine.Unreadable(err)
	case !ok:
		return check.Passf("no row yet")
	case !machine.Future(last.Clock(), r.Now()):
		return check.Passf("last row at %s", at)
	case r.Synced(ctx).Status == check.Pass:
		return check.Passf("the last row is from %s, when this clock was ahead; it is synchronised now", at)
	default:
		return check.Failf("the last row is from %s, it is %s now", at, r.Now().UTC().Format(time.RFC3339))
	}
}

func (r *receiver) userOr(name string) string {
	if r.User != "" {
		return r.User
	}
	return name
}

func (r *receiver) owned(names ...string) []machine.Want {
	var all []machine.Want
	for _, n := range names {
		all = append(all, machine.Want{Path: r.data(n), Owner: r.User, Most: 0o644, Need: 0o600})
	}
	return all
}

func (r *receiver) folders() []machine.Want {
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
func (r *receiver) appendable(name string) func(context.Context) check.Result {
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

// rows compares rows of the index with files, the newest or all.
func (r *receiver) rows(ctx context.Context) check.Result {
	from := time.Time{}
	if !r.Deep {
		from = r.Now().Add(-24 * time.Hour)
	}
	var seen, lost, unread int
	var example string
	perHost := map[string]int{}
	ring := make([]index.Row, 0, sample)
	compare := func(row index.Row) {
		fi, err := disk.OS{}.Lstat(filepath.Join(r.Config.DataDir, "episodes", string(row.Host), string(row.Episode)+".tar.zst"))
		if errors.Is(err, fs.ErrNotExist) {
			if _, archived, bad := store.Archived(disk.OS{}, r.Config.DataDir, row.Key()); archived && bad == nil {
				return
			}
		}
		if err != nil || fi.Size() != row.Size {
			lost++
			if example == "" {
				example = fmt.Sprintf("%s/%s", row.Host, row.Episode)
			}
		}
	}
	for line, err := range ledger.Rows(disk.OS{}, r.data(index.File), index.TimeKey, from) {
		if err != nil {
			return machine.Unreadable(err)
		}
		if ctx.Err() != nil {
			return check.Skipf("not done in time: %d rows compared", seen)
		}
		var row index.Row
		if json.Unmarshal(line.Line, &row) != nil || row.Host == "" || row.Episode == "" {
			unread++
			continue
		}
		if row.Archived {
			continue
		}
		switch {
		case r.Deep:
			seen++
			perHost[string(row.Host)]++
			compare(row)
		case len(ring) < sample:
			ring = append(ring, row)
			seen++
		default:
			ring[seen%sample] = row
			seen++
		}
	}
	for _, row := range ring {
		compare(row)
	}
	if !r.Deep {
		seen = len(ring)
	}
	switch {
	case lost > 0:
		return check.Failf("%d of %d rows have no file of their size, such as %s", lost, seen, example)
	case unread > 0:
		return check.Warnf("%d rows cannot be read, %d are as they should be", unread, seen)
	}
	if r.Deep {
		return r.without(perHost, seen)
	}
	return check.Passf("%d rows have their files", seen)
}

// without counts files that have no row, host by host.
func (r *receiver) without(rows map[string]int, seen int) check.Result {
	hosts, err := disk.OS{}.ReadDir(r.data("episodes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return machine.Unreadable(err)
	}
	for _, h := range hosts {
		if !h.IsDir() {
			continue
		}
		files, err := disk.OS{}.ReadDir(filepath.Join(r.data("episodes"), h.Name()))
		if err != nil {
			return machine.Unreadable(err)
		}
		if len(files) > rows[h.Name()] {
			return check.Warnf("%s has %d files and %d rows: serve adds the missing rows at its next start", h.Name(), len(files), rows[h.Name()])
		}
	}
	return check.Passf("%d rows and their files agree", seen)
}
