//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident19_ReceiverRestored: the receiver's machine is lost with all its episodes.
// Another machine gets the last backup and the receiver's name. The hosts need no action:
// they detect the new store by its store_id, compare, and send the missing episodes again.
func TestIncident19_ReceiverRestored(t *testing.T) {
	inLane(t)
	f := newSite(t, "", "lab-01", "lab-02")
	f.rx.Run("rm " + receiverConfig + " && cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	f.chooseStore()
	for _, h := range f.hosts {
		writeBusyConfig(h, time.Second, authorityURL)
		f.join(h)
	}
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, 60*time.Second)
	}
	f.rx.Run("cis490 backup --to /root/backup.tar.gz")
	backup := f.rx.Run("base64 -w0 /root/backup.tar.gz")
	id := strings.TrimSpace(f.rx.Read("/var/lib/cis490/store_id"))
	for _, h := range f.hosts { // episodes that the backup does not have
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
	fresh.Run("systemctl stop cis490-receiver cis490-bootstrap && cis490 restore --from /root/backup.tar.gz")
	f.rx = fresh
	finds := "receiver lost an episode" // of the host's shipper
	if f.store != nil {
		finds = "reconciled.*again=0" // its objects are not lost, only their rows
		f.store.writeFiles(fresh)
		fresh.Run("cis490 store init --take-over")
	}
	fresh.Run("systemctl start cis490-bootstrap cis490-receiver")
	f.redirectName(fresh) // in place of the site's name server
	back := time.Now()
	for _, h := range f.hosts {
		h.Eventually(2*time.Minute, "the shipper compares with the new store", "journalctl -u cis490-shipper -o cat --since @"+
			strconv.FormatInt(back.Unix(), 10)+" | grep '"+finds+"'")
	}
	detected := time.Since(back)
	for _, r := range lost {
		f.rx.Eventually(2*time.Minute, "episode "+r.Episode+" is stored again", "grep -q "+r.Episode+" /var/lib/cis490/index.jsonl")
	}
	reportTimes(t, detected, time.Since(back))
	t.Logf("%d episodes were lost with the machine; all were stored again %s after its loss", len(lost), time.Since(died).Round(time.Second))
	if now := strings.TrimSpace(f.rx.Read("/var/lib/cis490/store_id")); now == id || now == "" {
		t.Errorf("store_id was %s and is %q", id, now)
	}
	for _, h := range f.hosts { // they still record
		f.waitAccepted(h, countEpisodes(lost, h.Name)+2, 60*time.Second)
	}
	f.stopAndDrain()
	f.checkEachStoredOnce()
	for _, h := range f.hosts {
		f.checkReconciled(h)
	}
	if r := fresh.Try("cis490 install receiver --check"); r.Code != 0 {
		t.Errorf("drift after the restore: %s", r)
	}
}
