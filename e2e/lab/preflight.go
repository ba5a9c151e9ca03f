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

// cacheVariable overrides the folder of images, runs and built binaries. Its file system
// must support overlays on it, so it must not be an overlay itself.
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

// raiseLimits raises the limit of inotify instances. Each systemd needs about six; with the
// kernel's default of 128 for all of root, the twentieth host hangs in its boot. The limit
// stays until this machine reboots: it is the only thing that a lab leaves behind.
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

// preflight returns an error, with the command to paste, if this machine cannot run a lab.
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

// NeedGuests skips the test if QEMU is not installed, with the command to paste.
func NeedGuests(tb testing.TB) {
	tb.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("%s is not installed here: run 'apt-get install -y qemu-system-x86 qemu-utils'", program)
		}
	}
}
