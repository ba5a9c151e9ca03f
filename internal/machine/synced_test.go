package machine_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/machine"
)

// TestClockFix_OnAnyMachine runs the fix in a shell whose tools are those of a machine.
func TestClockFix_OnAnyMachine(t *testing.T) {
	const timesyncd, chrony, enable = "apt-get install -y systemd-timesyncd", "dnf install -y chrony", "systemctl enable --now chronyd"
	for name, c := range map[string]struct{ has, want string }{
		"with a time service": {"timedatectl apt-get dnf systemctl", "timedatectl set-ntp true"},
		"Debian without one":  {"apt-get systemctl", "timedatectl set-ntp true, " + timesyncd},
		"Fedora without one":  {"dnf systemctl", "timedatectl set-ntp true, " + timesyncd + ", " + chrony + ", " + enable},
	} {
		dir := t.TempDir()
		for tool := range strings.FieldsSeq("timedatectl apt-get dnf systemctl") {
			status := 1
			if strings.Contains(c.has, tool) {
				status = 0
			}
			script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\"\nexit %d\n", tool, status)
			if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", machine.ClockFix)
		cmd.Env = []string{"PATH=" + dir}
		out, err := cmd.CombinedOutput()
		if got := strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ", "); err != nil || got != c.want {
			t.Errorf("%s: ran %s, %v; want %s", name, got, err, c.want)
		}
	}
}
