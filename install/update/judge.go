package update

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
)

// Daemon is the state of a long-running service.
type Daemon struct {
	Name     string
	Masked   bool      // by the site
	Active   bool      // running and ready
	Starting bool      // starting, not restarting
	Restarts uint32    // automatic restarts since the last start by a person or install
	Since    time.Time // when it became active
	Why      string    // why it is not active
}

// Findings are the results of a closer check.
type Findings struct {
	Err     error    // why the running version's doctor failed
	Failing []string // failing hard checks of this machine itself
	// Reaches reports whether the good version reaches the receiver with this host's
	// credentials. If it does and the new one does not, the new one is at fault.
	Reaches     bool
	Waiting     int       // episodes waiting to be sent
	Oldest      time.Time // the oldest of them
	Recording   int
	LastShipped time.Time
}

// doctorItself is listed as a failing check if doctor does not answer.
const doctorItself = "doctor"

// Multiples of the trial's length. Within so much uptime a waiting episode must be
// accepted, and a busy host must have recorded again.
const (
	patience     = 2
	idlePatience = 6
	maxStrikes   = 2
)

// judge checks the version on trial again.
func (u *Updater) judge(ctx context.Context) (Result, error) {
	t := u.s.Trial
	units, err := u.o.Machine.Units(ctx)
	if err != nil {
		return Result{Did: Observing, Version: t.Version, Note: fmt.Sprintf("cannot read the state of services: %v", err)}, nil
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

// newBoot resets the restart counters after a reboot.
func (u *Updater) newBoot(t *Trial) {
	if boot := u.o.Machine.Boot(); boot != t.Boot {
		t.Boot, t.Restarts = boot, nil
	}
}

// crashed returns why the version has failed already, or "".
func (u *Updater) crashed(t *Trial, units []Daemon) string {
	if to, err := disk.Readlink(u.o.FS, u.path("current")); err != nil || filepath.Base(to) != t.Folder || !u.present("current") {
		return fmt.Sprintf("%s does not point to it any more", u.path("current"))
	}
	if u.o.Command != "" {
		want := u.path("current", binaryName)
		if to, err := disk.Readlink(u.o.FS, u.o.Command); err != nil || to != want {
			return fmt.Sprintf("%s does not point to %s any more", u.o.Command, want)
		}
	}
	for _, d := range units {
		base := min(t.Restarts[d.Name], d.Restarts) // lower than before after a manual restart
		switch {
		case d.Masked, slices.Contains(t.Down, d.Name):
			continue
		case d.Restarts > base:
			return fmt.Sprintf("%s ended and had to be restarted (%s)", d.Name, cmp.Or(d.Why, "now running"))
		case !d.Active && !d.Starting:
			return fmt.Sprintf("%s does not run: %s", d.Name, d.Why)
		}
		//off:trial_CrashForgotten
		if how, _ := u.ended(d.Name, t.Folder); how != "" {
			return fmt.Sprintf("%s ended and had to be started again (%s)", d.Name, how)
		}
		if t.Restarts == nil {
			t.Restarts = map[string]uint32{}
		}
		t.Restarts[d.Name] = base
	}
	return ""
}

// count adds the uptime since the last check, if all services were up. A check adds at most
// one trial's length: after a suspend or a clock change, services seem to be up for long,
// unobserved.
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
	// A clock that was set back adds nothing.
	if up > 0 {
		t.Observed += config.Duration(up)
	}
	t.Looked = now
}

// weigh decides whether the version passed, failed (why), or continues; Waiting is then
// what it waits for.
func (t *Trial) weigh(f Findings, trial time.Duration, now time.Time) (proved bool, why string) {
	failing := slices.DeleteFunc(slices.Clone(f.Failing), func(id string) bool { return slices.Contains(t.Baseline, id) })
	if f.Err != nil && !slices.Contains(t.Baseline, doctorItself) {
		failing = append(failing, doctorItself+": "+f.Err.Error())
	}
	if t.Accepted = t.Accepted || f.LastShipped.After(t.Began); t.Accepted {
		t.Busy = false // the host works
	}
	if !f.Reaches { // waiting episodes need time after the receiver is back
		t.Unreached = t.Observed
	}
	t.Waiting = ""
	if len(failing) > 0 {
		if t.Strikes++; t.Strikes >= maxStrikes {
			return false, "checks fail that passed before: " + strings.Join(failing, ", ")
		}
		t.Waiting = "checks fail, to be confirmed by the next run: " + strings.Join(failing, ", ")
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
		t.Waiting = "the receiver, which is unreachable"
		return false, ""
	case f.Waiting > 0 && inReach >= patience*trial && now.Sub(f.Oldest) > trial:
		const why = "%d episodes wait and none was accepted in %s, though the receiver is reachable"
		return false, fmt.Sprintf(why, f.Waiting, inReach.Round(time.Second))
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

// prove makes the version good. The symlink is the decision; everything else follows from
// it.
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
	u.o.Log.Info("release passed its trial", "version", t.Version, "seq", t.Seq)
	_ = u.remove(u.path(ballastFile))
	u.prune()
	return Result{Did: Proved, Version: t.Version}, u.tell(ctx)
}
