package machine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/machine"
)

// TestClockFix_WorksOnThisMachine: set-ntp alone fails without a time service.
func TestClockFix_WorksOnThisMachine(t *testing.T) {
	for files, want := range map[string]string{
		"/usr/lib/systemd/system/chrony.service /usr/bin/apt-get": "on x: sudo timedatectl set-ntp true",
		"/usr/bin/apt-get": "on x: sudo apt-get install -y systemd-timesyncd && sudo timedatectl set-ntp true",
		"/usr/bin/dnf":     "on x: sudo dnf install -y chrony && sudo systemctl enable --now chronyd",
		"/usr/bin/apt-get /run/systemd/container": "nothing here: a container has the clock of the machine that it runs on; " +
			"there: sudo timedatectl set-ntp true",
		"/etc/hostname": "on x: sudo timedatectl set-ntp true   # needs a time service: install systemd-timesyncd or chrony",
	} {
		root := t.TempDir()
		for name := range strings.FieldsSeq(files) {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := machine.ClockFix("on x: ", root); got != want {
			t.Errorf("with %s: %q, want %q", files, got, want)
		}
	}
}
