package checks

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"os/user"
	"path/filepath"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/wire"
)

// installed is where install puts the binary. A binary elsewhere was started by a person or
// a test.
const installed = "/opt/cis490/versions"

func (h *host) build() []check.Check {
	return []check.Check{
		{
			ID: "version.stamp", Title: "Build has a commit", Severity: check.Hard,
			Fix: wire.AnswerOf(wire.Unstamped).Fix,
			Doc: "Each episode carries the commit that recorded it; the receiver rejects an episode without one. " +
				"A build of a changed checkout is a warning.",
			Run: func(context.Context) check.Result {
				switch {
				case h.Build.Commit == "":
					return check.Failf("version %s has no commit: nothing is recorded with it", cmp.Or(h.Build.Version, "(none)"))
				case h.Build.Dirty:
					return check.Warnf("version %s of commit %s with uncommitted changes", h.Build.Version, h.Build.Commit)
				}
				return check.Passf("version %s of commit %s", h.Build.Version, h.Build.Commit)
			},
		},
		{
			ID: "version.installed", Title: "Running the installed version", Severity: check.Soft,
			Fix: here + "sudo cis490 install lab-host   # restarts services that run an older build",
			Doc: "The running binary is the one in /opt/cis490/current.",
			Run: func(context.Context) check.Result {
				self, err := os.Executable()
				if err != nil {
					return check.Skipf("%v", err)
				}
				return Installed(self, filepath.Join(filepath.Dir(installed), "current"))
			},
		},
		{
			ID: "update.state", Title: "Updates work", Severity: check.Soft,
			Fix: here + "sudo systemctl start cis490-autoupdate; sudo journalctl -u cis490-autoupdate -n 20 --no-pager",
			Doc: "The status that autoupdate wrote: the version that passed its trial here, and whether another is on trial, " +
				"was rejected, or failed and was rolled back.",
			Run: h.updates,
		},
	}
}

// updates checks the status that autoupdate wrote.
func (h *host) updates(context.Context) check.Result {
	if h.Updates == nil {
		return check.Skipf("updates are not configured on this host")
	}
	return machine.Updates(h.Updates())
}

// Installed checks that the running binary is the one behind the symlink to a version's
// folder. Another file with the same content also passes, because install runs from where
// the binary was downloaded.
func Installed(self, current string) check.Result {
	want, err := disk.OS{}.Real(current)
	if err != nil {
		return check.Skipf("not installed by install: %v", err)
	}
	got, err := disk.OS{}.Real(self)
	if err != nil {
		return check.Skipf("%v", err)
	}
	if filepath.Dir(got) != want && !sameContent(got, filepath.Join(want, "cis490")) {
		return check.Warnf("running %s, installed is %s", got, want)
	}
	return check.Passf("%s", got)
}

// maxBinary bounds the size of this program's binary, in bytes.
const maxBinary = 256 << 20

// sameContent reports whether both files can be read and have the same content.
func sameContent(a, b string) bool {
	x, err := disk.OS{}.Stat(a)
	if err != nil {
		return false
	}
	y, err := disk.OS{}.Stat(b)
	if err != nil || x.Size() != y.Size() {
		return false
	}
	one, err := disk.ReadFile(disk.OS{}, a, maxBinary)
	if err != nil {
		return false
	}
	other, err := disk.ReadFile(disk.OS{}, b, maxBinary)
	return err == nil && bytes.Equal(one, other)
}

func (h *host) system() []check.Check {
	c, data := h.Config, h.Config.DataDir
	secrets := []machine.Want{
		{Path: h.cert(pairFile), Owner: h.User, Most: 0o600},
		{Path: h.cert(bearerFile), Owner: h.User, Most: 0o600},
		{Path: h.cert(tokenFile), Owner: h.User, Most: 0o600},
		{Path: h.cert(pendingFile), Owner: h.User, Most: 0o600},
	}
	folders := []machine.Want{
		{Path: data, Dir: true, Owner: h.User, Most: 0o755, Need: 0o700},
		{Path: filepath.Join(data, "episodes"), Dir: true, Owner: h.Recorder, Group: h.User, Most: 0o770, Need: 0o700},
		{Path: filepath.Join(data, "outbox"), Dir: true, Owner: h.User, Most: 0o755, Need: 0o700},
		{Path: filepath.Join(data, "shipped"), Dir: true, Owner: h.User, Most: 0o755, Need: 0o700},
		{Path: filepath.Join(data, "quarantine"), Dir: true, Owner: h.User, Most: 0o755, Need: 0o700},
		{Path: c.CertsDir, Dir: true, Owner: h.User, Most: 0o755, Need: 0o700},
	}
	return []check.Check{
		{
			ID: "files.owner", Title: "Folders belong to the right users", Severity: check.Hard,
			Fix: here + "sudo cis490 install lab-host   # sets owners and modes",
			Doc: "The shipper's user owns its folders, the recorder's user owns episodes/, and nobody else may write there.",
			Run: h.needsConfig(machine.Kept(folders)),
		},
		{
			ID: "files.secret", Title: "Credentials are private", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --fix",
			Doc: "Only the shipper's user can read the key, the bearer and the join token. doctor --fix removes excess permissions.",
			Run: h.needsConfig(machine.Kept(secrets)), Repair: machine.Tighten(secrets),
		},
		{
			ID: "users.exist", Title: "Users exist", Severity: check.Hard,
			Fix: here + "sudo cis490 install lab-host",
			Doc: "The services' users exist.",
			Run: func(context.Context) check.Result { return h.users() },
		},
		{
			ID: "machine.fit", Title: "Machine can run the services", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only machine.fit   # prints the commands to run",
			Doc: "The kernel allows the user namespaces that the units need, unless a drop-in of the site removes that need. " +
				"data_dir is writable, on a file system with owners, links, locks and folder syncs.",
			Run: h.needsConfig(machine.Fit(data)),
		},
		{
			ID: "disk.reserve", Title: "Disk has its reserve free", Severity: check.Hard,
			Fix: here + "df -h " + data +
				"   # free space there; below [orchestrate] disk_reserve recording pauses, while shipping goes on and frees some",
			Doc: "More than [orchestrate] disk_reserve is free. Below it recording pauses.",
			Run: h.needsConfig(func(context.Context) check.Result { return machine.Reserve(data, int64(c.Orchestrate.DiskReserve)) }),
		},
		{
			ID: "disk.inodes", Title: "Disk has room for files", Severity: check.Hard,
			Fix: here + "df -i " + data + "   # remove what fills it with small files",
			Doc: "The file system has free inodes. Without them no file can be created, however much space is free.",
			Run: h.needsConfig(func(context.Context) check.Result { return machine.Inodes(data) }),
		},
		{
			ID: "clock.synced", Title: "Clock is synchronized", Severity: check.Soft,
			Fix: here + machine.ClockFix,
			Doc: "A time service synchronizes the kernel's clock.",
			Run: machine.ClockSynced,
		},
		{
			ID: "kvm.device", Title: "KVM is available", Severity: check.Soft,
			Fix: here + "sudo modprobe kvm_intel || sudo modprobe kvm_amd   # fails if virtualisation is disabled in the firmware",
			Doc: "/dev/kvm exists. Without it virtual machines run in software, ten times slower. Recordings of plain processes do not need it.",
			Run: kvm,
		},
		{
			ID: "experiment.valid", Title: "Experiment is valid", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only experiment.valid   # prints the error: edit the file that [orchestrate] experiment names in " +
				h.Path + ", or remove the key to use the release's",
			Doc: "The experiment that orchestrate records can be read and parsed.",
			Run: h.needsConfig(h.experiment),
		},
	}
}

func (h *host) users() check.Result {
	if h.User == "" {
		return check.Skipf("this host runs under one user")
	}
	for _, name := range []string{h.User, h.Recorder} {
		if name == "" {
			continue
		}
		if _, err := user.Lookup(name); err != nil {
			return check.Failf("%v", err)
		}
	}
	return check.Passf("%s, %s", h.User, h.Recorder)
}

// kvm also checks /sys, because a sandbox may hide devices.
func kvm(context.Context) check.Result {
	fi, err := disk.OS{}.Stat("/dev/kvm")
	if err == nil && fi.Mode()&os.ModeCharDevice != 0 {
		return check.Passf("/dev/kvm exists")
	}
	if _, sys := (disk.OS{}).Stat("/sys/class/misc/kvm"); sys == nil {
		return check.Passf("the kernel supports it")
	}
	if err == nil {
		return check.Warnf("/dev/kvm is not a device")
	}
	return check.Warnf("%v", err)
}

func (h *host) experiment(context.Context) check.Result {
	if h.Experiment == nil {
		return check.Skipf("no experiment")
	}
	name, err := h.Experiment()
	if err != nil {
		return check.Failf("%v", err)
	}
	return check.Passf("%s", name)
}
