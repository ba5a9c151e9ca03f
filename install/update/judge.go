package update

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
)

// Daemon is how a long-running service is.
type Daemon struct {
	Name     string
	Masked   bool      // the site's business
	Active   bool      // running and ready
	Starting bool      // on its way to it, for the first time
	Restarts uint32    // by the service manager, since it was started by hand or by install
	Since    time.Time // it is active
	Why      string    // it is not
}

// Findings are what a closer look found.
type Findings struct {
	Err     error    // the running version's doctor gave no answer
	Failing []string // its failing hard checks that are about this machine alone
	// Reaches tells that the proven version reaches the receiver with this host's
	// credentials, so that what the new one does not bring through is its own fault.
	Reaches     bool
	Waiting     int       // episodes to be sent
	Oldest      time.Time // of them
	Recording   int
	LastShipped time.Time
}

// doctorItself stands among failing checks for a doctor that does not answer.
const doctorItself = "doctor"

// Multiples of the trial's length: work that waits must have come through, and a
// busy host have work again, before so much uptime is over.
const (
	patience     = 2
	idlePatience = 6
	maxStrikes   = 2
)

// judge looks at the version on trial once more.
func (u *Updater) judge(ctx context.Context) (Result, error) {
	t := u.s.Trial
	units, err := u.o.Machine.Units(ctx)
	if err != nil {
		return Result{Did: Observing, Version: t.Version, Note: fmt.Sprintf("services cannot be looked at: %v", err)}, nil
	}
	u.newBoot(t)
	if why := u.crashed(t, units); why != "" {
		return u.giveUp(ctx, why)
	}
	u.count(t, units)
	f := u.o.Machine.Examine(ctx, u.path("current", binaryName))
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	proved, why := t.weigh(f, u.o.Config.Trial.D(), u.o.Now())
	switch {
	case why != "":
		return u.giveUp(ctx, why)
	case proved:
		return u.prove(ctx)
	}
	return Result{Did: Observing, Version: t.Version, Note: t.Waiting}, u.save()
}

// newBoot notices that the machine was started anew: counters begin again.
func (u *Updater) newBoot(t *Trial) {
	if boot := u.o.Machine.Boot(); boot != t.Boot {
		t.Boot, t.Restarts = boot, nil
	}
}

// crashed tells why the version has failed already, or "".
func (u *Updater) crashed(t *Trial, units []Daemon) string {
	if to, err := disk.Readlink(u.o.FS, u.path("current")); err != nil || filepath.Base(to) != t.Folder || !u.present("current") {
		return fmt.Sprintf("%s does not lead to it any more", u.path("current"))
	}
	if u.o.Command != "" {
		want := u.path("current", binaryName)
		if to, err := disk.Readlink(u.o.FS, u.o.Command); err != nil || to != want {
			return fmt.Sprintf("%s does not lead to %s any more", u.o.Command, want)
		}
	}
	for _, d := range units {
		base := min(t.Restarts[d.Name], d.Restarts) // less than before: a person restarted it
		switch {
		case d.Masked, slices.Contains(t.Down, d.Name):
			continue
		case d.Restarts > base:
			return fmt.Sprintf("%s ended and had to be restarted (%s)", d.Name, orWord(d.Why, "it runs again"))
		case !d.Active && !d.Starting:
			return fmt.Sprintf("%s does not run: %s", d.Name, d.Why)
		}
		if how, _ := u.ended(d.Name, t.Folder); how != "" {
			return fmt.Sprintf("%s ended and had to be started anew (%s)", d.Name, how)
		}
		if t.Restarts == nil {
			t.Restarts = map[string]uint32{}
		}
		t.Restarts[d.Name] = base
	}
	return ""
}

// count adds the uptime since the last look, as far as all services were up. One
// look tells of a trial's length at most: services of a laptop that slept through a
// night, or whose clock was set, are up since long before, and nobody saw them.
func (u *Updater) count(t *Trial, units []Daemon) {
	now := u.o.Now()
	up := min(now.Sub(t.Looked), u.o.Config.Trial.D())
	for _, d := range units {
		if d.Masked || slices.Contains(t.Down, d.Name) {
			continue
		}
		if !d.Active {
			up = 0
			break
		}
		up = min(up, now.Sub(d.Since))
	}
	// A clock that was set counts for nothing.
	if up > 0 {
		t.Observed += config.Duration(up)
	}
	t.Looked = now
}

// weigh decides: the version proved itself, failed (why), or goes on; then
// Waiting says for what.
func (t *Trial) weigh(f Findings, trial time.Duration, now time.Time) (proved bool, why string) {
	failing := slices.DeleteFunc(slices.Clone(f.Failing), func(id string) bool { return slices.Contains(t.Baseline, id) })
	if f.Err != nil && !slices.Contains(t.Baseline, doctorItself) {
		failing = append(failing, doctorItself+": "+f.Err.Error())
	}
	if t.Accepted = t.Accepted || f.LastShipped.After(t.Began); t.Accepted {
		t.Busy = false // it is, and that is proven
	}
	if !f.Reaches { // once it is back, what waits needs its time
		t.Unreached = t.Observed
	}
	t.Waiting = ""
	if len(failing) > 0 {
		if t.Strikes++; t.Strikes >= maxStrikes {
			return false, "checks fail that did not before: " + strings.Join(failing, ", ")
		}
		t.Waiting = "checks fail, they are looked at once more: " + strings.Join(failing, ", ")
		return false, ""
	}
	t.Strikes = 0
	up := t.Observed.D()
	inReach := up - t.Unreached.D()
	if up < trial {
		return false, ""
	}
	switch {
	case t.Accepted:
		return true, ""
	case f.Waiting > 0 && !f.Reaches:
		t.Waiting = "the receiver, which cannot be reached"
		return false, ""
	case f.Waiting > 0 && inReach >= patience*trial && now.Sub(f.Oldest) > trial:
		return false, fmt.Sprintf("%d episodes wait and none was accepted in %s, though the receiver can be reached", f.Waiting, inReach.Round(time.Second))
	case f.Waiting > 0:
		t.Waiting = "an episode to be accepted"
		return false, ""
	case f.Recording > 0 && up < idlePatience*trial:
		t.Waiting = "an episode to be recorded and accepted"
		return false, ""
	case t.Busy && f.Recording == 0 && up < idlePatience*trial:
		t.Waiting = "recording to go on"
		return false, ""
	case t.Busy && f.Recording == 0:
		return false, fmt.Sprintf("nothing was recorded in %s, though this host recorded before", up.Round(time.Second))
	}
	return true, ""
}

// prove makes the version good. The link is the decision; the rest is told by it.
func (u *Updater) prove(ctx context.Context) (Result, error) {
	t := u.s.Trial
	if err := disk.Relink(u.o.FS, filepath.Join("versions", t.Folder), u.path("good")); err != nil {
		return Result{}, fmt.Errorf("make version %s good: %w", t.Version, err)
	}
	u.s.Good, u.s.Trial, u.s.Tag = t.Running, nil, ""
	if t.Seq > 0 {
		u.s.Hand = 0
	}
	if err := u.save(); err != nil {
		return Result{}, err
	}
	u.o.Log.Info("release has proven itself", "version", t.Version, "seq", t.Seq)
	_ = u.remove(u.path(ballastFile))
	u.prune()
	return Result{Did: Proved, Version: t.Version}, u.tell(ctx)
}

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
