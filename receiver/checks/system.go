package checks

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver/backup"
)

// backupFix is the command that makes a backup.
const backupFix = "sudo cis490 backup   # then move the file to another machine: it holds the CA key"

// warnDays is how many days ahead a full disk is reported.
const warnDays = 3

func (r *registry) system() []check.Check {
	c := r.Config
	secrets := []machine.Want{
		{Path: r.authority("ca.key"), Owner: r.AuthorityUser, Most: 0o600},
		{Path: r.authority("tokens.jsonl"), Owner: r.AuthorityUser, Most: 0o600},
		{Path: r.authority("authority.pem"), Owner: r.AuthorityUser, Most: 0o600},
	}
	operator := []machine.Want{{Path: c.Operator, Most: 0o640}}
	for _, path := range []string{
		c.Notify.URLsFile, c.Notify.WebhookTokenFile, c.Store.S3.CredentialsFile, c.Store.S3.DeleteCredentials, c.Ledger.URLFile,
		c.Authority.URLFile,
	} {
		if path != "" {
			operator = append(operator, machine.Want{Path: path, Most: 0o640})
		}
	}
	secret := []check.Check{
		{
			ID: "ca.key", Title: "CA key is private", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --fix   # or: sudo chmod 0600 " + r.authority("ca.key"),
			Doc: "Only the authority's user can read the CA key and the tokens. Only root can check this.",
			Run: r.needsConfig(ownerOnly(r.authority("ca.key"), machine.Kept(secrets))), Repair: machine.Tighten(secrets),
		},
		{
			ID: "operator.token", Title: "Operator's secrets are private", Severity: check.Soft,
			Fix: here + "sudo cis490 doctor --fix   # or: sudo chmod 0640 " + c.Operator,
			Doc: "The token for the dashboard and the operator's part of the API, and the files of secrets that [notify] names, are " +
				"not readable by everyone.",
			Run: r.needsConfig(machine.Kept(operator)), Repair: machine.Tighten(operator),
		},
	}
	lasts := check.Check{
		ID: "disk.days", Title: "Disk space lasts for days", Severity: check.Soft,
		Fix: here + "df -h " + r.Backend.Name + "   # free space there, or give it a larger disk: docs/operations.md has how to " +
			"move the receiver",
		Doc: "At the rate of the last 24 hours the disk reaches its reserve in more than three days.",
		Run: r.needsConfig(r.days),
	}
	rest := []check.Check{
		{
			ID: "backup.age", Title: "Backup is recent", Severity: check.Soft,
			Fix: here + backupFix,
			Doc: "The last `cis490 backup` is younger than [fleet] backup_old, and than the CA. Without a backup, a lost disk means a " +
				"new token for every host, by hand.",
			Run: r.needsConfig(r.backup),
		},
		{
			ID: "clock.synced", Title: "Clock is synchronized", Severity: check.Soft,
			Fix: here + machine.ClockFix,
			Doc: "A service synchronizes the kernel clock. The whole fleet uses the receiver's time.",
			Run: r.Synced,
		},
		{
			ID: "version.stamp", Title: "Build has a commit", Severity: check.Soft,
			Fix: here + "cis490 version   # then, from the folder of a released build: sudo ./cis490 install receiver",
			Doc: "The gate accepts the receiver's own commit, which a build without a stamp does not have.",
			Run: func(context.Context) check.Result {
				if r.Build.Commit == "" {
					return check.Warnf("version %s has no commit", r.Build.Version)
				}
				return check.Passf("version %s of commit %s", r.Build.Version, r.Build.Commit)
			},
		},
	}
	first, last := r.storage("machine.fit", "disk.reserve"), r.storage("disk.inodes")
	return slices.Concat(secret, first, []check.Check{lasts}, last, rest)
}

// days forecasts when the disk reaches its reserve, at the rate of the last 24 hours.
func (r *registry) days(context.Context) check.Result {
	free, err := r.Backend.Episodes.Free()
	if err != nil {
		return machine.Unreadable(err)
	}
	var day int64
	now := r.Now()
	from := now.Add(-24 * time.Hour)
	for row, err := range r.Backend.Index.Since(from) {
		if err != nil {
			return machine.Unreadable(err)
		}
		if at := row.When(); at.Before(from) || at.After(now) {
			continue // a time from a wrong clock
		}
		if !row.Archived && !row.Repaired {
			day += row.Size
		}
	}
	left := max(free-int64(r.Config.Limits.DiskReserve), 0)
	rate := humanize.IBytes(uint64(max(day, 0))) + " a day"
	switch {
	case day <= 0:
		return check.Passf("no episodes in the last 24 hours")
	case left/day < warnDays:
		return check.Warnf("%d days at %s", left/day, rate)
	case left/day > 10*365: // too far ahead to be useful
		return check.Passf("more than ten years at %s", rate)
	}
	return check.Passf("%d days at %s", left/day, rate)
}

// backup judges the age of the last backup or, without one of this CA, the age of the CA.
func (r *registry) backup(context.Context) check.Result {
	most := r.Config.Fleet.BackupOld.D()
	if most == 0 {
		return check.Skipf("[fleet] backup_old is 0: backups are made elsewhere")
	}
	ca, err := disk.OS{}.Stat(r.authority("ca.crt"))
	if err != nil {
		return machine.Unreadable(err)
	}
	last, err := backup.Last(r.Backend.Docs)
	if err != nil {
		return machine.Unreadable(err)
	}
	since, what := last.At, fmt.Sprintf("the last one is at %s, made at %s", last.File, plain.Time(last.At))
	if since.Before(ca.ModTime()) {
		since, what = ca.ModTime(), "none was made since the CA was created at "+plain.Time(ca.ModTime())
	}
	switch age := r.Now().Sub(since); {
	case machine.Future(since, r.Now()) && !since.Equal(last.At): // a fault of the clock, which a backup does not fix
		return check.Skipf("the CA was made at %s, which is in the future", plain.Time(since))
	case machine.Future(since, r.Now()):
		return check.Warnf("%s, which is in the future: its age is unknown", what)
	case age > most:
		return check.Warnf("%s", what) // without its age, because an alert stores this text
	case since.Equal(last.At):
		return check.Passf("%s, made at %s", last.File, plain.Time(since))
	}
	return check.Skipf("%s, which is new", what)
}

// ownerOnly makes a check skip for everyone but root and the path's owner: others may see
// a sandbox's mask instead of the file.
func ownerOnly(path string, run func(context.Context) check.Result) func(context.Context) check.Result {
	return func(ctx context.Context) check.Result {
		if os.Geteuid() != 0 && !mine(path) {
			return check.Skipf("only root can check this: " + machine.WithSudo)
		}
		return run(ctx)
	}
}

// mine reports whether a file belongs to this process's user.
func mine(path string) bool {
	fi, err := disk.OS{}.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
