package update

import (
	"cmp"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
)

// endedDir holds a file per failed daemon, which its unit's ExecStopPost writes durably:
// the target of current, and how the daemon ended. It survives reboots and manual restarts,
// which reset the service manager's counters.
const (
	endedDir = "state/ended"
	maxEnded = 4096
)

// ended returns how a version's daemon last failed, and when; "" if it did not.
func (u *Updater) ended(unit, folder string) (how string, at time.Time) {
	path := u.path(endedDir, unit)
	b, err := disk.ReadFile(u.o.FS, path, maxEnded)
	if err != nil {
		return "", at
	}
	to, how, _ := strings.Cut(string(b), "\n")
	if filepath.Base(strings.TrimSpace(to)) != folder {
		return "", at
	}
	if fi, err := u.o.FS.Lstat(path); err == nil {
		at = fi.ModTime()
	}
	return cmp.Or(clip(how), "unknown cause"), at
}

// forgetEnded removes all records, because install itself stopped daemons until now.
func (u *Updater) forgetEnded() error {
	u.clear(u.path(endedDir), func(string) bool { return true })
	return u.o.FS.SyncDir(u.path(endedDir))
}
