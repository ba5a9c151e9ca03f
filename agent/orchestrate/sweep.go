package orchestrate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// lock locks the folder, because sweep would remove another recorder's incomplete episodes.
func (r *Orchestrator) lock() (io.Closer, error) {
	if err := disk.MkdirAll(r.o.FS, r.episodes, dirPerm); err != nil {
		return nil, fault.Exit(fault.Fix(fmt.Errorf("record into %s: %w", r.episodes, err),
			"sudo cis490 install lab-host   # makes the folders"), fault.Config)
	}
	var st unix.Stat_t
	if err := unix.Stat(r.episodes, &st); err == nil && os.Geteuid() == 0 && st.Uid != 0 {
		return nil, fault.Exit(fault.Fix(
			fmt.Errorf("record into %s as root: root's files would stop the service, whose user owns the folder", r.episodes),
			"sudo systemctl stop cis490-orchestrator && sudo -u cis490-rec cis490 orchestrate --once"), fault.NoPerm)
	}
	held, err := r.o.FS.Lock(r.episodes)
	if errors.Is(err, disk.ErrLocked) {
		return nil, fault.Exit(fault.Fix(fmt.Errorf("another recorder uses %s", r.episodes),
			"sudo systemctl stop cis490-orchestrator   # then again"), fault.TempFail)
	}
	return held, err
}

// sweep removes what a crash left: incomplete episodes, which are never shipped, and
// working folders.
func (r *Orchestrator) sweep() error {
	all, err := r.o.FS.ReadDir(r.episodes)
	if err != nil {
		return fmt.Errorf("remove incomplete episodes: %w", err)
	}
	half := 0
	for _, e := range all {
		dir := filepath.Join(r.episodes, e.Name())
		if _, err := ident.ParseEpisodeID(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		if _, err := r.o.FS.Lstat(filepath.Join(dir, episode.DoneMarker)); !errors.Is(err, fs.ErrNotExist) {
			continue // complete, or not readable
		}
		if err := removeEpisode(r.o.FS, dir); err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		half++
	}
	if half > 0 {
		r.o.Log.Warn("removed incomplete episodes of a crash", "count", half)
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
