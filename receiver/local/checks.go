package local

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/receiver"
	"cis490/receiver/store"
)

// here is the prefix of commands to paste on the receiver.
const here = "on the receiver: "

// files checks the files of the data folder.
type files struct {
	o       Options
	user    string // owner; empty: not judged
	reserve int64
}

func (f files) path(name string) string { return filepath.Join(f.o.Dir, name) }

// checks returns the checks of the data folder, its files and its disk.
func (o Options) checks(user string, reserve int64) []check.Check {
	f := files{o, user, reserve}
	own := f.owned(IndexFile, AlertsFile, RejectionsFile, receiver.ContactsDoc, receiver.FleetCheckDoc, store.IDFile)
	return []check.Check{
		{
			ID: "ledger.index", Title: "Index can be appended to", Severity: check.Hard,
			Fix: here + "sudo chown " + cmp.Or(f.user, "cis490") + ": " + f.path(IndexFile),
			Doc: "index.jsonl is a regular file of serve's user. If root owns it, because a tool ran as root, serve answers 5xx and " +
				"hosts keep their episodes.",
			Run: f.appendable(IndexFile), Repair: machine.Tighten(own[:1]),
		},
		{
			ID: "ledger.alerts", Title: "Alerts can be written", Severity: check.Hard,
			Fix: here + "sudo chown " + cmp.Or(f.user, "cis490") + ": " + f.path(AlertsFile),
			Doc: "alerts.jsonl is a regular file of fleet-check's user.",
			Run: f.appendable(AlertsFile), Repair: machine.Tighten(own[1:2]),
		},
		{
			ID: "files.owner", Title: "Data belongs to serve's user", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --fix   # or: sudo cis490 install receiver",
			Doc: "The other files that serve and fleet-check write belong to serve's user.",
			Run: machine.Kept(append(own[2:], f.folders()...)), Repair: machine.Tighten(own[2:]),
		},
		{
			ID: "machine.fit", Title: "Machine suits the services", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only machine.fit   # says what to paste",
			Doc: "The kernel allows the user namespaces that the units need, unless a drop-in of the site removes that need. " +
				"data_dir is writable, on a file system with owners, links, locks and folder syncs.",
			Run: machine.Fit(f.o.Dir),
		},
		{
			ID: "disk.reserve", Title: "Disk keeps its reserve", Severity: check.Hard,
			Fix: here + "df -h " + f.o.Dir + "   # free space there, or give it a larger disk",
			Doc: "More than [limits] disk_reserve is free. Below it every PUT is answered 507, and hosts keep their episodes.",
			Run: func(context.Context) check.Result { return machine.Reserve(f.o.Dir, f.reserve) },
		},
		{
			ID: "disk.inodes", Title: "Disk has room for files", Severity: check.Hard,
			Fix: here + "df -i " + f.o.Dir + "   # remove what fills it with small files",
			Doc: "The file system still has inodes: without them no file can be made however much space is free.",
			Run: func(context.Context) check.Result { return machine.Inodes(f.o.Dir) },
		},
	}
}

func (f files) owned(names ...string) []machine.Want {
	var all []machine.Want
	for _, n := range names {
		all = append(all, machine.Want{Path: f.path(n), Owner: f.user, Most: 0o644, Need: 0o600})
	}
	return all
}

func (f files) folders() []machine.Want {
	return []machine.Want{
		{Path: f.o.Dir, Dir: true, Owner: f.user, Most: 0o755, Need: 0o700},
		{Path: f.path(store.EpisodesDir), Dir: true, Owner: f.user, Most: 0o755, Need: 0o700},
		{Path: f.path(store.StagedDir), Dir: true, Owner: f.user, Most: 0o755, Need: 0o700},
		{Path: f.path(receiver.HealthReports), Dir: true, Owner: f.user, Most: 0o755, Need: 0o700},
	}
}

// appendable checks owner and kind by name. As the owner it also opens the file for
// appending, which reveals read-only disks, attributes and sandboxes. It writes nothing.
func (f files) appendable(name string) func(context.Context) check.Result {
	kept := machine.Kept(f.owned(name))
	return func(ctx context.Context) check.Result {
		path := f.path(name)
		if _, err := (disk.OS{}).Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return check.Passf("%s does not exist yet", path)
		}
		if got := kept(ctx); got.Status != check.Pass {
			return got
		}
		if os.Geteuid() == 0 || !owns(path) {
			return check.Passf("%s has the right owner", path)
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

// owns reports whether a file belongs to this process's user.
func owns(path string) bool {
	fi, err := disk.OS{}.Lstat(path)
	if err != nil {
		return false
	}
	uid, known := disk.Owner(fi)
	return known && uid == os.Geteuid()
}
