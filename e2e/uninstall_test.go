//go:build e2e

package e2e

import (
	"regexp"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestUninstall: uninstall fails while episodes are unshipped, with their number. When all
// are shipped, it removes all units, processes and symlinks, and keeps the data,
// which --purge removes with the users. Before that, members of cis490-ops read the
// receiver's state.
func TestUninstall(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 15*time.Second)
	checkReaders(t, f.rx)

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
	f.rx.Run("cis490 uninstall receiver --purge --yes")
	for _, m := range []*lab.Host{h, f.rx} {
		left := m.Run("find /etc /opt /run /usr/local /var/lib -name '*cis490*'; cat /etc/passwd /etc/group | grep cis490 || true")
		if left != "" {
			t.Errorf("%s: --purge left:\n%s", m.Name, left)
		}
	}
}

// checkReaders: a member of cis490-ops reads what root reads, and can change as little as
// any other user.
func checkReaders(t *testing.T, rx *lab.Host) {
	t.Helper()
	rx.Run("useradd -G cis490-ops,systemd-journal member && useradd stranger")
	as := func(user, command string) lab.Result { return rx.Try("runuser -u " + user + " -- cis490 " + command) }
	for _, command := range []string{"status", "host list", "host show lab-01", "logs -n 1"} {
		if r := as("member", command); r.Code != 0 || r.Out == "" {
			t.Errorf("as a member: %s: %s", command, r)
		}
		if r := as("stranger", command); r.Code != 77 {
			t.Errorf("as another user: %s: %s", command, r)
		}
	}
	for _, command := range []string{"alerts list", "doctor"} {
		if r := as("member", command); r.Code != 0 {
			t.Errorf("as a member: %s: %s", command, r)
		}
	}
	for _, command := range []string{
		"host decommission lab-01 --yes", "token create lab-09", "token list", "alerts silence lab-01 silent", "release withdraw v1", "ca rotate",
		"access-token create member --role read", "backup", "archive --before 2026-01-01 --to /tmp", "store scrub", "debug bundle",
	} {
		if r := as("member", command); r.Code == 0 {
			t.Errorf("as a member: %s: %s", command, r)
		}
	}
	if r := rx.Try("runuser -u member -- cat /etc/cis490/operator /var/lib/cis490/index.jsonl"); r.Out != "" {
		t.Errorf("a member reads files: %s", r)
	}
}
