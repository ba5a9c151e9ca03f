//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// smallDisk gives a machine a data disk of 256 MiB.
var smallDisk = lab.WithTmpfs("/var/lib/cis490", "256M")

// leaveFree fills a small disk until mib MiB are free.
func leaveFree(h *lab.Host, mib int) {
	h.Run(fmt.Sprintf("rm -f /var/lib/cis490/ballast; fallocate -l $(( $(df --output=avail -B1 /var/lib/cis490 | "+
		"tail -1) - (%d<<20) )) /var/lib/cis490/ballast", mib))
}

// freeMiB returns the free space of a small disk.
func freeMiB(h *lab.Host) int {
	n, err := strconv.Atoi(h.Run("df --output=avail -B1M /var/lib/cis490 | tail -1 | tr -d ' '"))
	if err != nil {
		panic(err)
	}
	return n
}

// TestIncident12_ReceiverDiskFull: the receiver's disk fills up. The alert comes while it
// still accepts everything. Then it answers 507 before it uses its reserve; hosts back off
// and lose nothing. Shipping resumes when there is space again.
func TestIncident12_ReceiverDiskFull(t *testing.T) {
	inLane(t)
	f := &fleet{Lab: lab.New(t), t: t}
	f.rx = f.Boot("collector", smallDisk)
	f.rx.Push(lab.Binary(t), "/root/cis490")
	f.rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	setConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{"disk_reserve": "64 MiB"})
	f.chooseStore()
	f.hosts = f.BootAll("lab-01", "lab-02")
	for _, h := range f.hosts {
		f.join(h)
		stopRecording(h)
	}
	f.watchFleet()

	leaveFree(f.rx, 90) // less than one and a half times the reserve
	began := time.Now()
	a := f.waitAlert(time.Minute, "@receiver", "disk-low", "disk.reserve")
	detected := time.Since(began)
	t.Logf("%s; %s", a.Reason, a.Fix)
	for _, h := range f.hosts {
		addEpisodes(h, 2, 1<<10)
		waitDrained(h, time.Minute)
	}
	full := "journalctl -u cis490-receiver --no-pager | grep -c 'status=507' || true"
	if n := f.rx.Run(full); n != "0" {
		t.Errorf("%s episodes were refused while there was space", n)
	}

	leaveFree(f.rx, 66)
	for _, h := range f.hosts {
		addEpisodes(h, 2, 4<<10)
		h.Eventually(time.Minute, "the receiver answers 507", "journalctl -u cis490-shipper | grep -q 'status=507'")
	}
	time.Sleep(40 * time.Second)
	if n := f.rx.Run(full); n != "2" && n != "3" && n != "4" {
		t.Errorf("%s PUTs in 40 s, although both hosts got a Retry-After of a minute", n)
	}
	if n := freeMiB(f.rx); n < 62 {
		t.Errorf("the reserve of 64 MiB was used: %d MiB are free", n)
	}
	f.rx.Run("rm /var/lib/cis490/ballast")
	room := time.Now()
	for _, h := range f.hosts {
		waitDrained(h, 3*time.Minute) // waits grow while the disk is full
	}
	healed := time.Since(room)
	for _, h := range f.hosts {
		f.checkReconciled(h)
	}
	f.checkEachStoredOnce()
	f.waitResolved(time.Minute, "@receiver", "disk-low")
	reportTimes(t, detected, healed)
}
