package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"cis490/internal/disk"
	"cis490/internal/manifest"
	"cis490/internal/wire"
)

// unverified is the suffix of a download whose content is not verified yet.
const unverified = ".unverified"

// Pauses after repeated fetch failures: the first, doubled each time, up to the longest.
const (
	firstPause   = 5 * time.Minute
	longestPause = 6 * time.Hour
)

// fetch downloads a target into its folder, verified and durable. If that is not possible
// now, why is the reason; partial downloads are kept, and the next run continues.
func (u *Updater) fetch(ctx context.Context, t Target) (ready bool, why string, err error) {
	if have, err := u.identify(t.Folder); err == nil && have == t.id() {
		return true, "", nil
	}
	if u.s.Fetching != t.id() { // failures of another release do not count
		u.s.Fetching, u.s.Failures, u.s.NotBefore = t.id(), 0, time.Time{}
	}
	if wait := u.s.NotBefore.Sub(u.o.Now()); wait > 0 && wait <= longestPause {
		return false, fmt.Sprintf("next attempt to fetch version %s in %s", t.Version, wait.Round(time.Second)), nil
	}
	before := u.arrived(t)
	err = u.bring(ctx, t)
	if errors.Is(err, syscall.ENOSPC) {
		u.prune() // an older version, an abandoned download
		err = u.bring(ctx, t)
	}
	switch {
	case err == nil:
		u.s.Failures, u.s.NotBefore = 0, time.Time{}
		return true, "", u.save()
	case ctx.Err() != nil:
		return false, "", ctx.Err()
	}
	pause := u.pauseAfter(err, u.arrived(t) > before)
	u.s.NotBefore = u.o.Now().Add(pause)
	u.o.Log.Warn("release not fetched", "version", t.Version, "err", err, "wait", pause)
	return false, fmt.Sprintf("version %s could not be fetched: %v", t.Version, err), u.save()
}

// pauseAfter returns the pause after an incomplete fetch. A busy receiver sends its own
// Retry-After, and progress is not a failure; neither makes the pauses longer.
func (u *Updater) pauseAfter(err error, further bool) time.Duration {
	if p, ok := errors.AsType[*wire.Problem](err); ok && p.RetryAfter > 0 {
		return time.Duration(p.RetryAfter) * time.Second
	}
	if further {
		u.s.Failures = 0
	}
	if u.s.Failures++; u.s.Failures == 1 {
		return 0 // the timer's interval is enough
	}
	return min(firstPause<<min(u.s.Failures-2, 10), longestPause)
}

// arrived returns how many bytes of a target's binary are downloaded.
func (u *Updater) arrived(t Target) int64 {
	fi, err := u.o.FS.Lstat(u.path(fetchDir, string(t.Digest)+unverified))
	if err != nil {
		return 0
	}
	return fi.Size()
}

func (u *Updater) bring(ctx context.Context, t Target) error {
	// The folder counts once its binary exists, so the binary is last.
	dir := u.path("versions", t.Folder)
	for _, d := range []string{dir, u.path(fetchDir)} {
		if err := disk.MkdirAll(u.o.FS, d, 0o755); err != nil {
			return err
		}
	}
	experiment := dir + "/" + manifest.ExperimentFile
	if t.Experiment == nil {
		if err := u.remove(experiment); err != nil {
			return err
		}
	} else {
		path, err := u.download(ctx, *t.Experiment)
		if err != nil {
			return err
		}
		content, err := disk.ReadFile(u.o.FS, path, t.Experiment.Size)
		if err != nil {
			return err
		}
		if err := disk.ReplaceBytes(u.o.FS, experiment, 0o644, content); err != nil {
			return err
		}
		if err := u.verify(experiment, path, *t.Experiment); err != nil {
			return errors.Join(err, u.remove(experiment))
		}
	}
	blob := manifest.Blob{Digest: t.Digest, Size: t.Size}
	path, err := u.download(ctx, blob)
	if err != nil {
		return err
	}
	if err := u.verify(path, path, blob); err != nil {
		return err
	}
	f, err := u.o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = u.o.Machine.Prepare(f, dir+"/"+binaryName, t.Digest)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write version %s into its folder: %w", t.Version, err)
	}
	if have, err := u.identify(t.Folder); err != nil || have != t.id() {
		return errors.Join(fmt.Errorf("version %s is not in its folder", t.Version), err)
	}
	return u.remove(path)
}

// verify returns an error if content differs from the signed manifest, and removes the
// download.
func (u *Updater) verify(path, download string, want manifest.Blob) error {
	got, err := u.digest(path)
	if err != nil {
		return err
	}
	if got != want.Digest {
		return errors.Join(fmt.Errorf("the downloaded file has sha256 %s, the signed manifest names %s", got, want.Digest), u.remove(download))
	}
	return nil
}

func (u *Updater) remove(path string) error {
	if err := u.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// prune removes versions that are neither current nor good, downloads, and all but the
// latest logs. What fails to be removed is tried again later.
func (u *Updater) prune() {
	u.clear(u.path("versions"), func(name string) bool { return !u.inUse(name) })
	u.clear(u.path(fetchDir), func(string) bool { return true })
	logs, err := u.o.FS.ReadDir(u.path(logDir))
	if err != nil {
		return
	}
	for i, e := range logs { // names start with the time
		if i < len(logs)-keptLogs {
			_ = u.o.FS.Remove(u.path(logDir, e.Name()))
		}
	}
}

// clear removes the unwanted entries of a folder, recursively.
func (u *Updater) clear(dir string, unwanted func(name string) bool) {
	entries, err := u.o.FS.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := dir + "/" + e.Name()
		if !unwanted(e.Name()) {
			continue
		}
		if e.IsDir() {
			u.clear(path, func(string) bool { return true })
		}
		if err := u.o.FS.Remove(path); err != nil {
			u.o.Log.Warn("cannot remove", "path", path, "err", err)
		}
	}
}
