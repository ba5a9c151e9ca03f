//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestRestore: the receiver's machine is lost with all its episodes. A fresh one
// under the same name gets the last backup; nobody touches a host, and in the
// end every episode that a host holds a receipt for is there again.
func TestRestore(t *testing.T) {
	f := newFleet(t, "lab-01", "lab-02")
	for _, h := range f.hosts {
		h.Write("/etc/cis490/lab-host.toml", quickRest(h), 0o644)
		h.Run("systemctl restart cis490-orchestrator")
		f.waitAccepted(h, 2, 60*time.Second)
	}
	f.rx.Run("cis490 backup --to /root/backup.tar.gz")
	old := strings.TrimSpace(f.rx.Read("/var/lib/cis490/store_id"))
	for _, h := range f.hosts { // shipped after the backup was made
		f.waitAccepted(h, 4, 60*time.Second)
		h.Run("systemctl stop cis490-orchestrator")
	}
	lost := f.index()

	// The fresh machine: nothing of the old one but the backup and the program.
	f.rx.Run("systemctl stop 'cis490-*'; rm -rf /var/lib/cis490 /var/lib/cis490-authority /etc/cis490 /opt/cis490 /usr/local/bin/cis490 /etc/systemd/system/cis490-*; systemctl daemon-reload; userdel cis490; userdel cis490-ca; groupdel cis490; groupdel cis490-ca; true")
	f.rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	if r := f.rx.Try("cis490 restore --from /root/backup.tar.gz"); r.Code == 0 {
		t.Errorf("restore beside running daemons: %s", r)
	}
	f.rx.Run("systemctl stop cis490-receiver cis490-bootstrap && cis490 restore --from /root/backup.tar.gz && systemctl start cis490-bootstrap cis490-receiver")

	for _, r := range lost {
		f.rx.Eventually(10*time.Minute, "episode "+r.Episode+" is there again", "grep -q "+r.Episode+" /var/lib/cis490/index.jsonl")
	}
	if id := strings.TrimSpace(f.rx.Read("/var/lib/cis490/store_id")); id == old {
		t.Error("the store's id is the old one")
	}
	f.nothingLostNothingTwice()
	for _, h := range f.hosts {
		h.Run("systemctl start cis490-orchestrator")
		f.waitAccepted(h, 5, 60*time.Second)
	}
	if r := f.rx.Try("cis490 install receiver --check"); r.Code != 0 {
		t.Errorf("drifted after the restore: %s", r)
	}
}
