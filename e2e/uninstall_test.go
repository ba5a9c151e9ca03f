//go:build e2e

package e2e

import (
	"regexp"
	"testing"
	"time"
)

// TestUninstall: uninstall fails while episodes are unshipped, with their number. When all
// are shipped, it removes all units, processes and symlinks, and keeps the data,
// which --purge removes with the users.
func TestUninstall(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 15*time.Second)

	f.rx.CutOff()
	h.Write("/etc/cis490/lab-host.toml", shortRestConfig(h), 0o644)
	h.Run("systemctl restart cis490-orchestrator")
	h.Eventually(60*time.Second, "an unshipped episode", "ls /var/lib/cis490/data/episodes/*/done.marker")
	if r := h.Try("cis490 uninstall lab-host"); r.Code != 1 || !regexp.MustCompile(`[1-9][0-9]* episodes?`).MatchString(r.Err) {
		t.Errorf("uninstall with unshipped episodes: %s", r)
	}
	h.Run("systemctl is-active cis490-shipper") // nothing was changed

	f.rx.Reconnect()
	f.drain()
	h.Run("/root/cis490 uninstall lab-host")
	for what, command := range map[string]string{
		"units":     "ls -d /etc/systemd/system/cis490-* /etc/systemd/system/*.wants/cis490-* 2>/dev/null",
		"processes": "pgrep -a cis490",
		"symlinks":  "ls -d /usr/local/bin/cis490 /opt/cis490 2>/dev/null",
		"known":     "systemctl list-units --all --no-legend 'cis490-*'",
	} {
		if r := h.Try(command); r.Out != "" {
			t.Errorf("uninstall left %s:\n%s", what, r.Out)
		}
	}
	h.Run("test -s /var/lib/cis490/data/shipped/receipts.jsonl && test -s /etc/cis490/lab-host.toml")
	h.Run("/root/cis490 uninstall lab-host") // again, without an error
	f.checkEachStoredOnce()

	h.Run("/root/cis490 uninstall lab-host --purge --yes")
	left := h.Run("find /etc /opt /run /usr/local /var/lib -name '*cis490*'; cat /etc/passwd /etc/group | grep cis490 || true")
	if left != "" {
		t.Errorf("--purge left:\n%s", left)
	}
}
