package health

import (
	"bytes"
	"context"
	"os"
	"os/user"
	"path/filepath"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
)

// installed is where install puts the binary; a run from anywhere else is a
// person's or a test's.
const installed = "/opt/cis490/versions"

func (h *host) build() []check.Check {
	return []check.Check{
		{
			ID: "version.stamp", Title: "Build has a commit", Severity: check.Hard,
			Fix: here + "sudo systemctl start cis490-autoupdate   # brings a released build",
			Doc: "Each episode carries the commit that recorded it; one without is refused. A build of a changed checkout is a warning.",
			Run: func(context.Context) check.Result {
				switch {
				case h.Build.Commit == "":
					return check.Failf("version %s has no commit: nothing is recorded with it", orNone(h.Build.Version))
				case h.Build.Dirty:
					return check.Warnf("version %s of commit %s with changes that are in no commit", h.Build.Version, h.Build.Commit)
				}
				return check.Passf("version %s of commit %s", h.Build.Version, h.Build.Commit)
			},
		},
		{
			ID: "version.installed", Title: "Running is installed", Severity: check.Soft,
			Fix: here + "sudo cis490 install lab-host   # restarts what runs an older build",
			Doc: "The binary that runs is the one that /opt/cis490/current names.",
			Run: func(context.Context) check.Result {
				self, err := os.Executable()
				if err != nil {
					return check.Skipf("%v", err)
				}
				return Installed(self, filepath.Join(filepath.Dir(installed), "current"))
			},
		},
		{
			ID: "update.state", Title: "Updates are taken", Severity: check.Soft,
			Fix: here + "sudo systemctl start cis490-autoupdate; sudo journalctl -u cis490-autoupdate -n 20 --no-pager",
			Doc: "What autoupdate last noted: which release has proven itself here, whether one is on trial, was refused, or failed and was rolled back.",
			Run: h.updates,
		},
	}
}

// updates judges what autoupdate noted.
func (h *host) updates(context.Context) check.Result {
	if h.Updates == nil {
		return check.Skipf("nothing keeps this host on releases")
	}
	return machine.Updates(h.Updates())
}

// Installed judges whether the running binary is the one behind a symlink to a
// version's folder. Another file of the same content will do: install runs from
// where it was carried to.
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
		return check.Warnf("%s runs, %s is installed", got, want)
	}
	return check.Passf("%s", got)
}

// maxBinary bounds a binary of this program, in bytes.
const maxBinary = 256 << 20

// sameContent tells whether two files can be read and hold the same.
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
			Doc: "The shipper's folders are the shipper's user's, the recorder's are the recorder's, and nobody else may write there.",
			Run: h.needsConfig(machine.Kept(folders)),
		},
		{
			ID: "files.secret", Title: "Credentials are private", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --fix",
			Doc: "Only the shipper's user can read the key, the bearer and the join token. doctor --fix takes surplus rights away.",
			Run: h.needsConfig(machine.Kept(secrets)), Repair: machine.Tighten(secrets),
		},
		{
			ID: "users.exist", Title: "Users exist", Severity: check.Hard,
			Fix: here + "sudo cis490 install lab-host",
			Doc: "The users that the services run as are there.",
			Run: func(context.Context) check.Result { return h.users() },
		},
		{
			ID: "machine.fit", Title: "Machine suits the services", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only machine.fit   # says what to paste",
			Doc: "The kernel's limit leaves room for the user namespaces that the units ask for, or a drop-in of the site does without, " +
				"and data_dir is writable and on a file system that has owners, links, locks and a sync of folders.",
			Run: h.needsConfig(machine.Fit(data)),
		},
		{
			ID: "disk.reserve", Title: "Disk keeps its reserve", Severity: check.Hard,
			Fix: here + "df -h " + data + "   # free space there; recording pauses below [orchestrate] disk_reserve, shipping goes on and frees some",
			Doc: "More is free than [orchestrate] disk_reserve. Below it recording pauses.",
			Run: h.needsConfig(func(context.Context) check.Result { return machine.Reserve(data, int64(c.Orchestrate.DiskReserve)) }),
		},
		{
			ID: "disk.inodes", Title: "Disk has room for files", Severity: check.Hard,
			Fix: here + "df -i " + data + "   # remove what fills it with small files",
			Doc: "The file system still has inodes: without them no file can be made however much space is free.",
			Run: h.needsConfig(func(context.Context) check.Result { return machine.Inodes(data) }),
		},
		{
			ID: "clock.synced", Title: "Clock is kept right", Severity: check.Soft,
			Fix: here + "sudo timedatectl set-ntp true   # install systemd-timesyncd or chrony where it is not there",
			Doc: "Something synchronises the kernel's clock.",
			Run: machine.ClockSynced,
		},
		{
			ID: "kvm.device", Title: "KVM can be used", Severity: check.Soft,
			Fix: here + "sudo modprobe kvm_intel || sudo modprobe kvm_amd   # fails where the firmware has virtualisation switched off",
			Doc: "/dev/kvm is there. Without it virtual machines run in software, ten times slower; recordings of plain processes do not need it.",
			Run: kvm,
		},
		{
			ID: "experiment.valid", Title: "Experiment is valid", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only experiment.valid   # says what is wrong: edit the file that [orchestrate] experiment names in " + h.Path + ", or leave the key out to take the release's",
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

// kvm also looks at /sys, as a sandbox may hide devices.
func kvm(context.Context) check.Result {
	fi, err := disk.OS{}.Stat("/dev/kvm")
	if err == nil && fi.Mode()&os.ModeCharDevice != 0 {
		return check.Passf("/dev/kvm is there")
	}
	if _, sys := (disk.OS{}).Stat("/sys/class/misc/kvm"); sys == nil {
		return check.Passf("the kernel has it")
	}
	if err == nil {
		return check.Warnf("/dev/kvm is no device")
	}
	return check.Warnf("%v", err)
}

func (h *host) experiment(context.Context) check.Result {
	if h.Experiment == nil {
		return check.Skipf("no experiment at hand")
	}
	name, err := h.Experiment()
	if err != nil {
		return check.Failf("%v", err)
	}
	return check.Passf("%s", name)
}
