package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// cacheVariable overrides where images, runs and built binaries are kept. It must
// be on a file system that an overlay can be written to (no overlay itself).
const cacheVariable = "CIS490_LAB_CACHE"

func cacheDir() (string, error) {
	if dir := os.Getenv(cacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder (set $%s): %w", cacheVariable, err)
	}
	return filepath.Join(dir, "cis490-lab"), nil
}

// raiseLimits makes room for a fleet: each systemd holds about six inotify
// instances, and the kernel's usual limit of 128 for all of root's makes the
// twentieth host hang while it boots. The limit stays raised until this machine
// reboots, and is the only thing a lab leaves behind.
func raiseLimits() error {
	const path, enough = "/proc/sys/fs/inotify/max_user_instances", 1024
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read a limit: %w", err)
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || now >= enough {
		return err
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(enough)), 0); err != nil {
		return fmt.Errorf("raise a limit (at most 20 hosts will boot): %w", err)
	}
	return nil
}

// preflight refuses a machine that cannot run a lab, with what to paste.
func preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("boot hosts: needs root (run the tests as 'sudo -E env PATH=$PATH go test -tags e2e ./e2e/...')")
	}
	tools := []struct{ program, pkg string }{
		{"systemd-nspawn", "systemd-container"},
		{"mmdebstrap", "mmdebstrap"},
		{"ip", "iproute2"},
		{"nsenter", "util-linux"},
	}
	var missing []string
	for _, tool := range tools {
		if _, err := exec.LookPath(tool.program); err != nil {
			missing = append(missing, tool.pkg)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("find the lab's tools: run 'apt-get install -y %s'", strings.Join(missing, " "))
	}
	return nil
}

// NeedGuests skips a test where QEMU is not installed, with what to paste.
func NeedGuests(tb testing.TB) {
	tb.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("%s is not installed here: run 'apt-get install -y qemu-system-x86 qemu-utils'", program)
		}
	}
}
