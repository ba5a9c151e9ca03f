package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A run is what one lab made on this machine. Everything is found again by the
// run's id alone: its folder and the mounts in it, its cgroup, its namespaces. So
// there is no list to keep that a kill could leave incomplete.
//
// The owner holds a lock on the run's lock file for as long as it lives. A run
// whose lock is free is dead, whatever became of its process id.
type run struct {
	id   string
	dir  string
	lock *os.File

	mu   sync.RWMutex
	over bool // nothing may be made any more
}

func (r *run) name() string { return runName(r.id) }

func runName(id string) string { return "cis490-lab-" + id }

// register sweeps dead runs and makes a new one.
func register(cache string, logf func(string, ...any)) (*run, error) {
	runs := filepath.Join(cache, "runs")
	if err := os.MkdirAll(runs, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of runs: %w", err)
	}
	// Between the making and the locking of its lock file a run looks dead.
	registry, err := flock(filepath.Join(cache, "runs.lock"), 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = registry.Close() }()
	sweep(runs, logf)

	random := make([]byte, 3)
	_, _ = rand.Read(random) // never fails
	r := &run{id: hex.EncodeToString(random)}
	r.dir = filepath.Join(runs, r.id)
	if r.lock, err = flock(r.dir+".lock", syscall.LOCK_NB); err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	return r, nil
}

// sweep removes the runs whose owner is dead. What it cannot remove is tried
// again by the next lab, and never keeps this one from starting.
func sweep(runs string, logf func(string, ...any)) {
	locks, _ := filepath.Glob(filepath.Join(runs, "*.lock"))
	for _, path := range locks {
		lock, err := flock(path, syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue // its owner lives
		}
		if err == nil {
			dir := strings.TrimSuffix(path, ".lock")
			dead := &run{id: filepath.Base(dir), dir: dir, lock: lock}
			logf("lab: removing lab %s, left by a process that is gone", dead.id)
			err = dead.remove()
		}
		if err != nil {
			logf("lab: sweep %s: %v", path, err)
		}
	}
}

// make calls a function that makes something on this machine, which remove then
// finds: an interrupt removes the lab while its test is still at work.
func (r *run) make(something func() error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.over {
		return errors.New("the lab is being removed")
	}
	return something()
}

// remove takes everything away that the run made, its lock last: what failed is
// there for the next sweep.
func (r *run) remove() error {
	defer func() { _ = r.lock.Close() }()
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// Processes first; they hold all the rest. Files only when nothing can write.
	if err := removeCgroups(ctx, r.name()); err != nil {
		return err
	}
	err := errors.Join(removeNetwork(r.id), removeNspawnTraces(r), removeTree(r.dir))
	if err != nil {
		return err
	}
	if err := os.Remove(r.lock.Name()); err != nil {
		return fmt.Errorf("remove the run's lock: %w", err)
	}
	return nil
}

// removeNspawnTraces removes what a killed systemd-nspawn leaves in /run: a lock
// file named after the root's inode, and a folder for mounts sent to the host.
func removeNspawnTraces(r *run) error {
	var failures []error
	roots, _ := filepath.Glob(filepath.Join(r.dir, "hosts", "*", "root"))
	traces, _ := filepath.Glob(filepath.Join("/run/systemd/nspawn/propagate", r.name()+"-*"))
	for _, root := range roots {
		var st syscall.Stat_t
		if err := syscall.Stat(root, &st); err == nil {
			traces = append(traces, fmt.Sprintf("/run/systemd/nspawn/locks/inode-%d:%d", st.Dev, st.Ino))
		}
	}
	for _, path := range traces {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, fmt.Errorf("remove a trace of nspawn: %w", err))
		}
	}
	return errors.Join(failures...)
}

// flock opens, and if need be makes, a file and locks it until it is closed. With
// LOCK_NB a file that another holds is an error, else it is waited for.
func flock(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a lock: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|flag)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
