package orchestrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// lockFile, in the episodes' folder, is held by the one recorder of it.
const lockFile = ".lock"

// lock makes sure that no other recorder works in the folder: its half
// episodes are not ours to sweep.
func lock(episodes string) (unlock func(), err error) {
	fi, err := os.Stat(episodes)
	if err != nil {
		return nil, fault.Exit(fault.Fix(fmt.Errorf("record into %s: %w", episodes, err),
			"sudo cis490 install lab-host   # makes the folders"), fault.Config)
	}
	var st unix.Stat_t
	if err := unix.Stat(episodes, &st); err == nil && os.Geteuid() == 0 && st.Uid != 0 {
		return nil, fault.Exit(fault.Fix(fmt.Errorf("record into %s: root's files there would stop the service, whose user owns it", fi.Name()),
			"sudo systemctl stop cis490-orchestrator && sudo -u cis490-rec cis490 orchestrate --once"), fault.NoPerm)
	}
	f, err := os.OpenFile(filepath.Join(episodes, lockFile), os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, fault.Exit(fault.Fix(fmt.Errorf("record into %s: %w", episodes, err),
			"ls -ld "+episodes+"   # must be a folder that the user of this service may write"), fault.NoPerm)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.Exit(fault.Fix(fmt.Errorf("another recorder works in %s", episodes),
				"sudo systemctl stop cis490-orchestrator   # then again"), fault.TempFail)
		}
		return nil, fmt.Errorf("lock %s: %w", episodes, err)
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

// sweep removes what a crash has left: half episodes and working folders. A
// half episode is never shipped, so nothing is lost that anyone could have.
func (r *Orchestrator) sweep() error {
	all, err := r.o.FS.ReadDir(r.episodes)
	if err != nil {
		return fmt.Errorf("sweep half episodes: %w", err)
	}
	half := 0
	for _, e := range all {
		dir := filepath.Join(r.episodes, e.Name())
		if _, err := ident.ParseEpisodeID(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		if _, err := r.o.FS.Lstat(filepath.Join(dir, episode.DoneMarker)); !errors.Is(err, fs.ErrNotExist) {
			continue // whole, or not to be seen: not ours to judge
		}
		if err := removeEpisode(r.o.FS, dir); err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		half++
	}
	if half > 0 {
		r.o.Log.Warn("half episodes of a crash removed", "count", half)
	}
	for _, name := range []string{counterFile, gateFile} {
		if err := r.o.FS.Remove(filepath.Join(r.episodes, name+disk.Partial)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep: %w", err)
		}
	}
	if err := removeWork(filepath.Join(r.episodes, workDir)); err != nil {
		r.o.Log.Warn("remove working folders", "path", workDir, "err", err)
	}
	return nil
}
