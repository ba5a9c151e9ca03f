package checks

import (
	"context"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/machine"
	"cis490/receiver/backup"
)

// setup returns the checks of what a person does after the first install. They only warn
// and raise no alert, because everything works without it.
func (r *registry) setup() []check.Check {
	return []check.Check{
		{
			ID: "release.published", Title: "A signed release is published", Severity: check.Soft,
			Fix: here + "sudo cis490 release publish DIR   # DIR is the folder that `make dist` writes: docs/updates.md",
			Doc: "At least one signed release is published. Until then no machine of the fleet updates itself.",
			Run: r.needsConfig(r.published),
		},
		{
			ID: "notify.target", Title: "Someone is notified of alerts", Severity: check.Soft,
			Fix: here + "echo 'ntfy://ntfy.sh/TOPIC' | sudo install -m 640 -g cis490 /dev/stdin " + config.NotifyURLsPath +
				"   # or another target of [notify] in " + r.Path,
			Doc: "[notify] has a target for alerts. Without one alerts are only in the journal, in `alerts list` and on the dashboard. " +
				"A heartbeat alone is not a target: it reports that the receiver stopped, not that a host did.",
			Run: r.needsConfig(r.target),
		},
		{
			ID: "backup.made", Title: "A backup was made", Severity: check.Soft,
			Fix: here + backupFix,
			Doc: "`cis490 backup` ran at least once since the CA was made. [fleet] backup_old = 0 means that backups are made elsewhere.",
			Run: r.needsConfig(r.backedUp),
		},
	}
}

func (r *registry) published(context.Context) check.Result {
	all, err := r.Backend.Releases.List()
	switch {
	case err != nil:
		return machine.Unreadable(err)
	case len(all) == 0:
		return check.Warnf("no release is published yet, so no machine updates itself")
	}
	return check.Passf("%d published", len(all))
}

func (r *registry) target(context.Context) check.Result {
	for _, t := range r.targets() {
		if t.Unknown {
			return check.Warnf("a line of urls_file is not the URL of a known service; for a webhook of your own, set webhook_url")
		}
	}
	if n := len(r.targets()); n > 0 {
		return check.Passf("%d in [notify]", n)
	}
	return check.Warnf("[notify] has no target: alerts are only in the journal and on the dashboard")
}

func (r *registry) backedUp(context.Context) check.Result {
	if r.Config.Fleet.BackupOld.D() == 0 {
		return check.Skipf("[fleet] backup_old = 0: backups are made elsewhere")
	}
	last, err := backup.Last(r.Backend.Docs)
	switch {
	case err != nil:
		return machine.Unreadable(err)
	case last.At.IsZero():
		return check.Warnf("no backup was made yet: a lost disk means a new token for every host")
	}
	return check.Passf("%s", last.File)
}
