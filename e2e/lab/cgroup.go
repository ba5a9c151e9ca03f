package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// start starts a process in a cgroup of the run. A host's cgroup has all its processes,
// including those that the lab starts in it.
func (r *run) start(group string, cmd *exec.Cmd) error {
	return r.create(func() error {
		dir, err := r.cgroup(group)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a cgroup: %w", err)
		}
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("open the cgroup: %w", err)
		}
		defer func() { _ = f.Close() }()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(f.Fd())}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
		}
		return nil
	})
}

// cgroup returns the path of a cgroup of the run, in the v2 hierarchy.
func (r *run) cgroup(group string) (string, error) {
	mounted, err := mounts()
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(mounted, func(m mount) bool { return m.kind == "cgroup2" })
	if i < 0 {
		return "", errors.New("find the cgroup v2 hierarchy: none is mounted (mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified)")
	}
	return filepath.Join(mounted[i].path, r.name(), group), nil
}

// used returns the CPU time of all processes of the run.
func (r *run) used() time.Duration {
	dir, err := r.cgroup("")
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0
	}
	var micros int64
	_, _ = fmt.Sscanf(string(stat), "usage_usec %d", &micros)
	return (time.Duration(micros) * time.Microsecond).Round(time.Second)
}

// killCgroup kills all processes in the cgroup dir and below, and waits until they have
// ended. A missing cgroup is not an error.
func killCgroup(ctx context.Context, dir string) error {
	err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill the cgroup: %w", err)
	}
	return poll(ctx, 10*time.Millisecond, func() (bool, error) {
		events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		if err != nil {
			return false, fmt.Errorf("read the cgroup's state: %w", err)
		}
		return bytes.Contains(events, []byte("populated 0")), nil
	})
}

// removeCgroups kills and removes the cgroup of that name in every hierarchy:
// nspawn mirrors it into the v1 one, where the machine has both.
func removeCgroups(ctx context.Context, name string) error {
	mounted, err := mounts()
	if err != nil {
		return err
	}
	var failures []error
	for _, kind := range []string{"cgroup2", "cgroup"} {
		for _, m := range mounted {
			if m.kind != kind {
				continue
			}
			dir := filepath.Join(m.path, name)
			if m.kind == "cgroup2" {
				failures = append(failures, killCgroup(ctx, dir))
			}
			failures = append(failures, poll(ctx, 10*time.Millisecond, func() (bool, error) { return removeCgroupTree(dir) }))
		}
	}
	return errors.Join(failures...)
}

// removeCgroupTree removes the folders from the leaves up. It returns false while a
// folder is busy: the kernel needs a moment to release a killed process.
func removeCgroupTree(dir string) (bool, error) {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("list cgroups: %w", err)
	}
	slices.Reverse(dirs)
	for _, d := range dirs {
		switch err := syscall.Rmdir(d); {
		case errors.Is(err, syscall.EBUSY):
			return false, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("remove cgroup %s: %w", d, err)
		}
	}
	return true, nil
}
