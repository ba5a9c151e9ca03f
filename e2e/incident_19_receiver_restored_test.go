//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident19_ReceiverRestored: the receiver's machine dies with all its episodes,
// and with all that came after yesterday's backup. Another machine gets the backup
// and the receiver's name. Nobody touches a host: they notice the new store by its
// store_id, compare, and send again what they hold a receipt for.
func TestIncident19_ReceiverRestored(t *testing.T) {
	t.Parallel()
	f := site(t, "", "lab-01", "lab-02")
	f.rx.Run("cd /root && ./cis490 install receiver")
	for _, h := range f.hosts {
		busy(h, time.Second, authorityURL)
		f.join(h)
	}
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, 60*time.Second)
	}
	f.rx.Run("cis490 backup --to /root/backup.tar.gz")
	backup := f.rx.Run("base64 -w0 /root/backup.tar.gz")
	id := strings.TrimSpace(f.rx.Read("/var/lib/cis490/store_id"))
	for _, h := range f.hosts { // shipped after the backup was made
		f.waitAccepted(h, f.accepted(h)+3, 60*time.Second)
	}
	lost := f.index()
	f.rx.Crash()
	died := time.Now()

	fresh := f.Boot("collector-2")
	fresh.RunIn(backup, "base64 -d >/root/backup.tar.gz")
	fresh.Push(lab.Binary(t), "/root/cis490")
	fresh.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	if r := fresh.Try("cis490 restore --from /root/backup.tar.gz"); r.Code == 0 {
		t.Errorf("restore beside running daemons: %s", r)
	}
	fresh.Run("systemctl stop cis490-receiver cis490-bootstrap && cis490 restore --from /root/backup.tar.gz && systemctl start cis490-bootstrap cis490-receiver")
	f.lead(fresh) // as the site's name server does
	f.rx = fresh
	back := time.Now()
	for _, h := range f.hosts {
		h.Eventually(2*time.Minute, "it notices that episodes were lost", "journalctl -u cis490-shipper -o cat | grep 'receiver lost an episode'")
	}
	detected := time.Since(back)
	for _, r := range lost {
		f.rx.Eventually(2*time.Minute, "episode "+r.Episode+" is there again", "grep -q "+r.Episode+" /var/lib/cis490/index.jsonl")
	}
	measured(t, detected, time.Since(back))
	t.Logf("%d episodes were lost with the machine; all are back %s after its death", len(lost), time.Since(died).Round(time.Second))
	if now := strings.TrimSpace(f.rx.Read("/var/lib/cis490/store_id")); now == id || now == "" {
		t.Errorf("the store's id was %s and is %q", id, now)
	}
	for _, h := range f.hosts { // and they go on recording
		f.waitAccepted(h, countOf(lost, h.Name)+2, 60*time.Second)
	}
	f.rest()
	f.nothingLostNothingTwice()
	for _, h := range f.hosts {
		f.equal(h)
	}
	if r := fresh.Try("cis490 install receiver --check"); r.Code != 0 {
		t.Errorf("drifted after the restore: %s", r)
	}
}
