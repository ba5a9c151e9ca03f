package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Binary builds cis490 from the source tree, stamped with the checked-out commit, and
// returns its path. Each test process builds it once.
func Binary(tb testing.TB) string {
	tb.Helper()
	root, err := projectRoot()
	if err != nil {
		tb.Fatalf("lab: %v", err)
	}
	commit, err := output(root, "git", "rev-parse", "HEAD")
	if err != nil {
		tb.Fatalf("lab: read the commit to stamp: %v", err)
	}
	return BinaryWith(tb, "0.0.0-lab", commit)
}

// BinaryWith is Binary with another version and commit, for scenarios about updates and
// the gate. Only flags, which go to go build, can change the code.
func BinaryWith(tb testing.TB, version, commit string, flags ...string) string {
	tb.Helper()
	name := version + "+" + commit
	if len(flags) > 0 {
		sum := sha256.Sum256([]byte(strings.Join(flags, "\n")))
		name += "+" + hex.EncodeToString(sum[:4])
	}
	path, err := build(name, ".", "-s -w -X main.buildVersion="+version+" -X main.buildCommit="+commit, flags...)
	if err != nil {
		tb.Fatalf("lab: build version %s: %v", version, err)
	}
	return path
}

// build builds a package of the source tree and returns the path of the binary. The
// folder belongs to this process, so that the next one does not test an older source tree.
func build(name, pkg, link string, flags ...string) (string, error) {
	root, err := projectRoot()
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	binaries := filepath.Join(cache, "binaries")
	owner, err := processName("self")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(binaries, owner, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for the binary: %w", err)
	}
	lock, err := flock(filepath.Join(cache, "binaries.lock"), 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	if err := sweepBinaries(binaries); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cis490")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=" + link, "-o", path + ".partial"}, flags...)
	if _, err := output(root, "go", append(args, pkg)...); err != nil {
		return "", err
	}
	return path, os.Rename(path+".partial", path)
}

// sweepBinaries removes the binaries of processes that have ended.
func sweepBinaries(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list binaries: %w", err)
	}
	for _, e := range entries {
		pid, _, _ := strings.Cut(e.Name(), "-")
		now, err := processName(pid)
		if err == nil && now == e.Name() {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove old binaries: %w", err)
		}
	}
	return nil
}

// processName returns a name that no other process ever gets: pid and start time.
func processName(pid string) (string, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return "", fmt.Errorf("identify process %s: %w", pid, err)
	}
	id, _, _ := strings.Cut(string(stat), " ")
	afterName := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return id + "-" + afterName[19], nil
}

// projectRoot returns the folder of go.mod. Tests run in the folder of their package.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the source tree: no go.mod in this folder or above")
		}
		dir = filepath.Dir(dir)
	}
}

func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
