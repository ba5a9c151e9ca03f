//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestMoveReceiver moves the receiver to a new machine as docs/operations.md says,
// while its hosts record. Nobody touches a host; no episode is lost, none is there
// twice.
func TestMoveReceiver(t *testing.T) {
	t.Parallel()
	f := site(t, "", "lab-01", "lab-02")
	f.rx.Run("cd /root && ./cis490 install receiver")
	for _, h := range f.hosts {
		busy(h, 2*time.Second, authorityURL)
		f.join(h)
	}
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, 2*time.Minute)
	}
	const stop = "systemctl stop cis490-receiver cis490-bootstrap cis490-fleet-health.timer cis490-autoupdate.timer"
	old, fresh := f.rx, f.Boot("collector-2")
	fresh.Push(lab.Binary(t), "/root/cis490")
	fresh.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443 && " + stop)

	old.Run(stop)
	before := f.index()
	const folders = "etc/cis490 var/lib/cis490 var/lib/cis490-authority"
	packed := old.Run("tar -C / --xattrs --numeric-owner -cz " + folders + " | base64 -w0")
	fresh.Run("cd / && rm -rf " + folders)
	fresh.RunIn(packed, "base64 -d | tar -C / --xattrs --numeric-owner -xpz")
	old.PowerOff()
	for _, m := range append([]*lab.Host{fresh}, f.hosts...) { // the name leads to the new machine
		m.Run(fmt.Sprintf(`sed '/collector\.lab/d' /etc/hosts > /tmp/hosts && echo '%s collector.lab collector' >> /tmp/hosts && cat /tmp/hosts > /etc/hosts`, fresh.Addr))
	}
	fresh.Run("cis490 install receiver")

	f.rx = fresh
	for _, h := range f.hosts {
		f.waitAccepted(h, countOf(before, h.Name)+2, 3*time.Minute)
	}
	for i, r := range f.index()[:len(before)] {
		if r != before[i] {
			t.Errorf("row %d was %v, is %v", i, before[i], r)
		}
	}
	for _, h := range f.hosts {
		h.Run("systemctl stop cis490-orchestrator cis490-shipper")
	}
	f.nothingLostNothingTwice()
	if sick := fresh.Try("cis490 doctor"); strings.Contains(sick.Out, "FAIL") {
		t.Errorf("doctor on the new machine:\n%s", sick.Out)
	}
}

func countOf(rows []row, host string) (n int) {
	for _, r := range rows {
		if r.Host == host {
			n++
		}
	}
	return n
}
