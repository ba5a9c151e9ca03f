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

// A run is everything that one lab creates on this machine: its folder with the mounts,
// its cgroup, its namespaces. All names contain the run's id, so cleaning up needs no list
// that a kill could leave incomplete.
//
// The owner holds a lock on the run's lock file while it lives. A run whose lock is free
// is dead.
type run struct {
	id   string
	dir  string
	lock *os.File

	mu     sync.RWMutex
	closed bool // nothing may be created any more
}

func (r *run) name() string { return runName(r.id) }

func runName(id string) string { return "cis490-lab-" + id }

// register sweeps dead runs and creates a new one.
func register(cache string, logf func(string, ...any)) (*run, error) {
	runs := filepath.Join(cache, "runs")
	if err := os.MkdirAll(runs, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of runs: %w", err)
	}
	// A run looks dead between creating and locking its lock file.
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

// sweep removes the runs whose owner is dead. A failure is logged; the next lab retries.
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
			logf("lab: removing lab %s of a process that has ended", dead.id)
			err = dead.remove()
		}
		if err != nil {
			logf("lab: sweep %s: %v", path, err)
		}
	}
}

// create calls a function that creates something on this machine. After remove it returns
// an error instead: an interrupt removes the lab while its test is still running.
func (r *run) create(something func() error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return errors.New("the lab is being removed")
	}
	return something()
}

// remove removes everything of the run, its lock last: the next sweep retries after a
// failure.
func (r *run) remove() error {
	defer func() { _ = r.lock.Close() }()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// Processes first, because they use everything else and write files.
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

// removeNspawnTraces removes the files that a killed systemd-nspawn leaves in /run: a lock
// named after the root's inode, and a folder for mounts.
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

// flock opens or creates a file and locks it until it is closed. It waits for another
// holder, or with LOCK_NB returns EWOULDBLOCK.
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
