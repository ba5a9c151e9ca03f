package update

import (
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
)

// endedDir holds what ExecStopPost of the daemons' units notes, durably, when one
// fails: a file per unit, with what current led to and how it ended. It outlives
// what the service manager counts, which a reboot or a restart by hand sets back.
const (
	endedDir = "state/ended"
	maxEnded = 4096
)

// ended tells how a version's daemon failed last, and when; "" where it did not.
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
	return orWord(clip(how), "it is not known how"), at
}

// forgetEnded begins anew: what ended until now was stopped by an install.
func (u *Updater) forgetEnded() error {
	u.clear(u.path(endedDir), func(string) bool { return true })
	return u.o.FS.SyncDir(u.path(endedDir))
}
