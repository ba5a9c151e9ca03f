package update

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/wire"
)

// Limits of applying a version.
const (
	maxAttempts = 3               // of a version that crashes the machine
	watchEvery  = 2 * time.Second // interval of checks during the watch
	busyBefore  = time.Hour       // a host with an accepted episode in this time is busy
)

// apply puts a version on trial: its self-test must succeed, then current points to it, its
// own install brings the machine to its state, and it is watched for an early crash.
func (u *Updater) apply(ctx context.Context, t Target) (Result, error) {
	if !u.present("good") {
		return Result{}, fault.Fix(errors.New("no version has passed its trial on this machine, so a rollback would be impossible"),
			"sudo /opt/cis490/current/cis490 install lab-host   # or receiver")
	}
	binary := u.path("versions", t.Folder, binaryName)
	if err := u.selfTest(ctx, binary, t); err != nil {
		if ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
		if _, gerr := u.o.Machine.SelfTest(ctx, u.path("good", binaryName)); gerr != nil {
			return u.postpone(ctx, t, gerr)
		}
		u.o.Log.Error("release does not run here", "version", t.Version, "err", err)
		u.remember(t, fmt.Sprintf("it does not run here: %v", err))
		u.s.Refused = fmt.Sprintf("release %s does not run here: %v", t.Version, err)
		if err := u.save(); err != nil {
			return Result{}, err
		}
		u.prune()
		return Result{Did: RolledBack, Version: t.Version, Note: u.s.Refused}, u.tell(ctx)
	}
	good, err := disk.Readlink(u.o.FS, u.path("good"))
	if err != nil {
		return Result{}, err
	}
	_, failure := u.o.Machine.Converge(ctx, u.path("current", binaryName))
	switch {
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case failure != nil && u.s.Postponed == t.id():
		return u.postpone(ctx, t, failure)
	}
	u.keepBallast()
	before := u.o.Machine.Examine(ctx, u.path("current", binaryName))
	now := u.o.Now()
	u.s.Trial = &Trial{
		Target: t, From: filepath.Base(good), Phase: Applying, Began: now, Looked: now, Boot: u.o.Machine.Boot(),
		Baseline: before.Failing,
	}
	if before.Err != nil { // doctor failed before this version too
		u.s.Trial.Baseline = append(u.s.Trial.Baseline, doctorItself)
	}
	if failure != nil {
		u.s.Trial.PrevFailure = clip(failure.Error())
	}
	if err := u.noteDown(ctx); err != nil { // without a baseline the trial would be unfair
		u.s.Trial = nil
		note := fmt.Sprintf("cannot read the state of services, so version %s is not tried: %v", t.Version, err)
		return Result{Did: Nothing, Version: t.Version, Note: note}, nil
	}
	// A machine with failures before the trial does not have to continue recording.
	u.s.Trial.Busy = now.Sub(before.LastShipped) < busyBefore && len(u.s.Trial.Baseline)+len(u.s.Trial.Down) == 0
	u.o.Log.Info("starting the trial of a release", "version", t.Version, "seq", t.Seq, "from", u.s.Trial.From)
	return u.resume(ctx)
}

// resume applies the intended version, also after an interruption.
func (u *Updater) resume(ctx context.Context) (Result, error) {
	t := u.s.Trial
	if t.Attempts++; t.Attempts > maxAttempts {
		return u.giveUp(ctx, fmt.Sprintf("it was applied %d times and never finished", maxAttempts))
	}
	if err := u.save(); err != nil {
		return Result{}, err
	}
	if err := disk.Relink(u.o.FS, filepath.Join("versions", t.Folder), u.path("current")); err != nil {
		return Result{}, u.uncount(fmt.Errorf("make version %s current: %w", t.Version, err))
	}
	_, err := u.o.Machine.Converge(ctx, u.path("current", binaryName))
	switch {
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case err != nil && fault.CodeOf(err) == fault.Config && t.hadBadConfig():
		// The config was invalid before, too. It must not keep out a release that may fix
		// it.
		u.o.Log.Warn("cannot read the config; leaving the units unchanged", "err", err)
		if err := u.o.Machine.Restart(ctx); err != nil {
			u.o.Log.Warn("services do not run with this config", "err", err)
		}
		_ = u.noteDown(ctx)
		t.Baseline = append(t.Baseline, u.o.Machine.Examine(ctx, u.path("current", binaryName)).Failing...)
	case err != nil && t.PrevFailure != "":
		t.Postponed = true
		return u.giveUp(ctx, t.PrevFailure)
	case err != nil && t.diskWasFull() && strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		t.Postponed = true
		return u.giveUp(ctx, err.Error())
	case err != nil:
		return u.giveUp(ctx, fmt.Sprintf("its install failed: %v", err))
	}
	if err := u.forgetEnded(); err != nil {
		return Result{}, u.uncount(err)
	}
	t.Phase, t.Looked = Watching, u.o.Now()
	if err := u.save(); err != nil {
		return Result{}, err
	}
	if err := u.publish(); err != nil {
		return Result{}, err
	}
	return u.watch(ctx)
}

// uncount takes back an attempt that ended because of the disk, not the version.
func (u *Updater) uncount(err error) error {
	u.s.Trial.Attempts--
	return errors.Join(err, u.save())
}

// recorder is the daemon that cannot start with an unreadable experiment.
const recorder = "cis490-orchestrator.service"

// noteDown records which daemons do not run, would not start again, or kept failing, for
// reasons other than the new version.
func (u *Updater) noteDown(ctx context.Context) error {
	units, err := u.o.Machine.Units(ctx)
	if err != nil {
		return err
	}
	u.s.Trial.Down = nil
	noExperiment := slices.Contains(u.s.Trial.Baseline, "experiment.valid")
	for _, d := range units {
		how, at := u.ended(d.Name, u.s.Trial.From)
		fails := how != "" && u.o.Now().Sub(at).Abs() < busyBefore
		if down := !d.Active && !d.Starting || fails; !d.Masked && (down || noExperiment && d.Name == recorder) {
			u.s.Trial.Down = append(u.s.Trial.Down, d.Name)
		}
	}
	if len(u.s.Trial.Down) > 0 { // the check fails for any of them; crashed checks each
		u.s.Trial.Baseline = append(u.s.Trial.Baseline, "units.active")
	}
	return nil
}

func (t *Trial) diskWasFull() bool {
	return slices.Contains(t.Baseline, "disk.reserve") || slices.Contains(t.Baseline, "disk.inodes")
}

// postpone defers a release because of a fault of the machine. The release does not count
// as failed, and is tried when the previous version works again.
func (u *Updater) postpone(ctx context.Context, t Target, failure error) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	u.postponeFor(t, failure.Error())
	u.o.Log.Error("postponed a release", "version", t.Version, "err", u.s.Refused)
	return Result{Did: Nothing, Version: t.Version, Note: u.s.Refused}, u.save()
}

func (u *Updater) postponeFor(t Target, failure string) {
	u.s.Postponed = t.id()
	u.s.Refused = fmt.Sprintf("release %s waits until this machine works again: version %s fails on it too (%s); "+
		"after the repair: sudo cis490 autoupdate", t.Version, u.s.Good.Version, clip(failure))
}

func (t *Trial) hadBadConfig() bool {
	for _, id := range t.Baseline {
		if id == "config.valid" || id == doctorItself {
			return true
		}
	}
	return false
}

// watch checks often for a while, so that a version that crashes early is rolled back at
// once.
func (u *Updater) watch(ctx context.Context) (Result, error) {
	t := u.s.Trial
	for waited := time.Duration(0); waited < u.o.Config.Watch.D(); waited += watchEvery {
		u.o.Pause(ctx, watchEvery)
		if ctx.Err() != nil {
			break // the next run continues
		}
		units, err := u.o.Machine.Units(ctx)
		if err != nil {
			continue // not the version's fault
		}
		if why := u.crashed(t, units); why != "" {
			return u.giveUp(ctx, why)
		}
	}
	t.Looked = u.o.Now().Add(-u.o.Config.Watch.D()) // the watch counts as observed
	if err := u.save(); err != nil {
		return Result{}, err
	}
	return Result{Did: Began, Version: t.Version}, nil
}

// selfTest runs a binary and compares its version with the manifest.
func (u *Updater) selfTest(ctx context.Context, binary string, t Target) error {
	info, err := u.o.Machine.SelfTest(ctx, binary)
	switch {
	case err != nil:
		return err
	case info.Version != t.Version || info.Commit != t.Commit:
		return fmt.Errorf("it reports version %s of commit %s, the manifest names %s of %s", info.Version, info.Commit, t.Version, t.Commit)
	case info.OS != u.o.OS || info.Arch != u.o.Arch:
		return fmt.Errorf("it is for %s/%s, this machine is %s/%s", info.OS, info.Arch, u.o.OS, u.o.Arch)
	}
	return nil
}

// remember records a failed version, so that it is not tried again here.
func (u *Updater) remember(t Target, why string) {
	u.s.Bad = append(u.s.Bad, Bad{ID: t.id(), RolledBack: wire.RolledBack{Running: t.Running, At: u.o.Now().UTC(), Why: clip(why)}})
	u.s.Bad = u.s.Bad[max(0, len(u.s.Bad)-maxBad):]
}

// tell publishes the update status and reports it to the receiver.
func (u *Updater) tell(ctx context.Context) error {
	if err := u.publish(); err != nil {
		return err
	}
	u.o.Machine.Report(ctx, u.path("good", binaryName))
	return nil
}

// clip turns a reason into one line of bounded length.
func clip(s string) string {
	const most = 400
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
