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

// keptLogs is how many failed versions' logs are kept; maxLog bounds each, in
// bytes.
const (
	keptLogs = 5
	maxLog   = 1 << 20
)

// giveUp decides that the version on trial has failed. The decision is durable
// before anything is done.
func (u *Updater) giveUp(ctx context.Context, why string) (Result, error) {
	t := u.s.Trial
	t.Phase, t.Why, t.Attempts = RollingBack, clip(why), 0
	u.o.Log.Error("release fails here and is rolled back", "version", t.Version, "seq", t.Seq, "err", why)
	if err := u.save(); err != nil {
		return Result{}, err
	}
	return u.rollBack(ctx)
}

// rollBack brings back the binary and the units that had proven themselves.
func (u *Updater) rollBack(ctx context.Context) (Result, error) {
	t := u.s.Trial
	t.Attempts++
	u.drop() // its time has come: the disk may be full
	if err := u.keepLogs(ctx, t); err != nil {
		u.o.Log.Warn("logs of the failed version are not kept", "err", err)
	}
	back := filepath.Join("versions", t.From)
	if err := disk.Relink(u.o.FS, back, u.path("current")); err != nil {
		return Result{}, fmt.Errorf("go back to %s: %w", t.From, err)
	}
	if err := u.o.Machine.Converge(ctx, u.path("current", binaryName)); err != nil {
		if ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
		err = errors.Join(err, u.o.Machine.Restart(ctx))
		if fault.CodeOf(err) != fault.Config && t.Attempts < maxAttempts && !t.Spared {
			// The next run tries again; until then at least the binary is the old one.
			return Result{}, fmt.Errorf("go back to %s: %w", t.From, errors.Join(err, u.save()))
		}
		// Each later run repairs. Here it must come to an end: a host that stays in
		// between would not take the release either that mends it.
		u.o.Log.Error("the install of the version before fails, so units stay as they are", "version", t.From, "err", err)
	}
	if t.Spared {
		u.blameMachine(t.Target, t.Why)
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

// keepLogs keeps what the failed version said.
func (u *Updater) keepLogs(ctx context.Context, t *Trial) error {
	if err := disk.MkdirAll(u.o.FS, u.path(logDir), 0o700); err != nil {
		return err
	}
	path := u.path(logDir, t.Began.UTC().Format("20060102T150405Z")+"-"+t.Version+".log")
	if disk.Exists(u.o.FS, path) {
		return nil // an earlier, interrupted go
	}
	b := u.o.Machine.Logs(ctx, t.Began)
	b = append([]byte("# rolled back: "+t.Why+"\n"), b[max(0, len(b)-maxLog):]...)
	return disk.ReplaceBytes(u.o.FS, path, 0o600, b)
}

// settle holds what is remembered against what the symlinks say, which go before:
// a person may have installed a version by hand, or the state may be lost.
func (u *Updater) settle() error {
	current, cerr := disk.Readlink(u.o.FS, u.path("current"))
	good, gerr := disk.Readlink(u.o.FS, u.path("good"))
	if gerr != nil {
		return fault.Fix(fmt.Errorf("look at what has proven itself: %w", gerr), "sudo /opt/cis490/current/cis490 install lab-host   # or receiver")
	}
	t := u.s.Trial
	switch {
	case t != nil && filepath.Base(good) == t.Folder:
		// Proven, but for the last note of it; or a hand brought the same.
		u.s.Good, u.s.Trial = t.Running, nil
	case t != nil && cerr == nil && current == good && filepath.Base(good) != t.From:
		u.o.Log.Info("a version brought by hand ends the trial", "version", t.Version)
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

// adopt puts a version on trial that became current in a way that is not
// remembered.
func (u *Updater) adopt(current, good string) error {
	d, err := u.digest(u.path("versions", current, binaryName))
	if err != nil {
		return err
	}
	now := u.o.Now()
	u.o.Log.Warn("what runs has not proven itself, it is on trial", "version", current)
	u.s.Trial = &Trial{
		Target: Target{Running: wire.Running{Version: current, Digest: d}, Folder: current},
		From:   good, Phase: Watching, Began: now, Looked: now, Boot: u.o.Machine.Boot(), Attempts: 1,
	}
	return u.save()
}

// noteGood notes what has proven itself, where a hand brought it.
func (u *Updater) noteGood(folder string) error {
	d, err := u.digest(u.path("versions", folder, binaryName))
	if err != nil || d == u.s.Good.Digest {
		return nil // a good without a binary shows elsewhere
	}
	first := u.s.Good.Digest == ""
	u.s.Good, u.s.Tag = wire.Running{Version: folder, Digest: d}, ""
	if !first { // whoever brought it knew what was offered; only what comes later replaces it
		u.s.Hand = 0
		for _, seq := range u.s.Seen {
			u.s.Hand = max(u.s.Hand, seq)
		}
		u.o.Log.Info("a version was brought by hand", "version", folder)
	}
	return u.save()
}
