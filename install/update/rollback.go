package update

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/wire"
)

// keptLogs is how many logs of failed versions are kept; maxLog bounds each, in bytes.
const (
	keptLogs = 5
	maxLog   = 1 << 20
)

// giveUp decides that the version on trial has failed. The decision is durable before
// anything is changed.
func (u *Updater) giveUp(ctx context.Context, why string) (Result, error) {
	t := u.s.Trial
	t.Phase, t.Why, t.Attempts = RollingBack, clip(why), 0
	u.o.Log.Error("release failed its trial; rolling back", "version", t.Version, "seq", t.Seq, "err", why)
	if err := u.save(); err != nil {
		return Result{}, err
	}
	return u.rollBack(ctx)
}

// rollBack restores the good version's binary and units.
func (u *Updater) rollBack(ctx context.Context) (Result, error) {
	t := u.s.Trial
	t.Attempts++
	u.drop() // the disk may be full
	if err := u.keepLogs(ctx, t); err != nil {
		u.o.Log.Warn("cannot save the logs of the failed version", "err", err)
	}
	//off:10_BadUpdate
	back := filepath.Join("versions", t.From)
	if err := disk.Relink(u.o.FS, back, u.path("current")); err != nil {
		return Result{}, fmt.Errorf("roll back to %s: %w", t.From, err)
	}
	if _, err := u.o.Machine.Converge(ctx, u.path("current", binaryName)); err != nil {
		if ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
		err = errors.Join(err, u.o.Machine.Restart(ctx))
		if fault.CodeOf(err) != fault.Config && t.Attempts < maxAttempts && !t.Postponed {
			// The next run tries again; at least the binary is the old one already.
			return Result{}, fmt.Errorf("roll back to %s: %w", t.From, errors.Join(err, u.save()))
		}
		// Later runs repair the rest. The rollback must end here, because an unfinished one
		// would also keep out the release that fixes it.
		u.o.Log.Error("the install of the previous version failed; leaving the units unchanged", "version", t.From, "err", err)
	}
	if t.Postponed {
		u.postponeFor(t.Target, t.Why)
	} else {
		u.remember(t.Target, t.Why)
		u.s.Refused = fmt.Sprintf("release %s failed on this machine: %s", t.Version, t.Why)
	}
	u.s.Trial, u.s.Tag = nil, ""
	if err := u.save(); err != nil {
		return Result{}, err
	}
	u.prune()
	return Result{Did: RolledBack, Version: t.Version, Note: t.Why}, u.tell(ctx)
}

// keepLogs saves the logs of the failed version.
func (u *Updater) keepLogs(ctx context.Context, t *Trial) error {
	if err := disk.MkdirAll(u.o.FS, u.path(logDir), 0o700); err != nil {
		return err
	}
	path := u.path(logDir, t.Began.UTC().Format("20060102T150405Z")+"-"+t.Version+".log")
	if disk.Exists(u.o.FS, path) {
		return nil // saved by an interrupted rollback
	}
	b := u.o.Machine.Logs(ctx, t.Began)
	b = append([]byte("# rolled back: "+t.Why+"\n"), b[max(0, len(b)-maxLog):]...)
	return disk.ReplaceBytes(u.o.FS, path, 0o600, b)
}

// settle compares the state with the symlinks, which take precedence: a person may have
// installed a version by hand, or the state may be lost.
func (u *Updater) settle() error {
	current, cerr := disk.Readlink(u.o.FS, u.path("current"))
	good, gerr := disk.Readlink(u.o.FS, u.path("good"))
	if gerr != nil {
		return fault.Fix(fmt.Errorf("read the good version: %w", gerr), "sudo /opt/cis490/current/cis490 install lab-host   # or receiver")
	}
	t := u.s.Trial
	switch {
	case t != nil && filepath.Base(good) == t.Folder:
		// It passed before the state was saved, or a person installed the same version.
		u.s.Good, u.s.Trial = t.Running, nil
	case t != nil && cerr == nil && current == good && filepath.Base(good) != t.From:
		u.o.Log.Info("a version installed by hand ended the trial", "version", t.Version)
		u.s.Trial = nil
	case t == nil && cerr == nil && current != good && u.present("current"):
		return u.adopt(filepath.Base(current), filepath.Base(good))
	case t == nil:
		return u.noteGood(filepath.Base(good))
	default:
		return nil
	}
	return errors.Join(u.save(), u.noteGood(filepath.Base(good)))
}

// adopt puts a version on trial that became current without a record.
func (u *Updater) adopt(current, good string) error {
	d, err := u.digest(u.path("versions", current, binaryName))
	if err != nil {
		return err
	}
	now := u.o.Now()
	u.o.Log.Warn("the running version has not passed a trial; starting one", "version", current)
	u.s.Trial = &Trial{
		Target: Target{Running: wire.Running{Version: current, Digest: d}, Folder: current},
		From:   good, Phase: Watching, Began: now, Looked: now, Boot: u.o.Machine.Boot(), Attempts: 1,
	}
	return u.save()
}

// noteGood records a good version that a person installed.
func (u *Updater) noteGood(folder string) error {
	d, err := u.digest(u.path("versions", folder, binaryName))
	if err != nil || d == u.s.Good.Digest {
		return nil // other code reports a good without a binary
	}
	first := u.s.Good.Digest == ""
	u.s.Good, u.s.Tag = wire.Running{Version: folder, Digest: d}, ""
	if !first { // installed over the current offer: only a later release replaces it
		u.s.Hand = 0
		for _, seq := range u.s.Seen {
			u.s.Hand = max(u.s.Hand, seq)
		}
		u.o.Log.Info("a version was installed by hand", "version", folder)
	}
	return u.save()
}
