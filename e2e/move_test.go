//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestMoveReceiver moves the receiver to a new machine with the commands of
// docs/operations.md, while its hosts record. The hosts need no action, and each episode is
// stored once.
func TestMoveReceiver(t *testing.T) {
	inLane(t)
	f := newSite(t, "", "lab-01", "lab-02")
	f.rx.Run("cd /root && ./cis490 install receiver")
	for _, h := range f.hosts {
		writeBusyConfig(h, 2*time.Second, authorityURL)
		f.join(h)
	}
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, 2*time.Minute)
	}
	// The commands of the page.
	old, fresh := f.rx, f.Boot("collector-2")
	machines := map[string]*lab.Host{"collector": old, "collector-2": fresh}
	fresh.Push(lab.Binary(t), "/root/bin/cis490")
	var before []row
	for _, s := range stepsOf(t, "../docs/operations.md", "## Move the receiver to a new machine") {
		if s.inline {
			continue
		}
		if strings.HasPrefix(s.command, "sudo rm -rf") { // by now the file was copied
			fresh.RunIn(old.Run("base64 -w0 /root/receiver.tgz"), "base64 -d > /root/receiver.tgz")
			old.PowerOff()
			f.redirectName(fresh)
		}
		if strings.HasPrefix(s.command, "sudo tar -C / --xattrs --numeric-owner -c") {
			before = f.index()
		}
		machines[s.on].Run("cd /root && " + strings.ReplaceAll(s.command, "sudo ", ""))
	}
	f.rx = fresh
	for _, h := range f.hosts {
		f.waitAccepted(h, countEpisodes(before, h.Name)+2, 3*time.Minute)
	}
	for i, r := range f.index()[:len(before)] {
		if r != before[i] {
			t.Errorf("row %d was %v and is %v", i, before[i], r)
		}
	}
	for _, h := range f.hosts {
		h.Run("systemctl stop cis490-orchestrator cis490-shipper")
	}
	f.checkEachStoredOnce()
	if r := fresh.Try("cis490 doctor"); strings.Contains(r.Out, "FAIL") {
		t.Errorf("doctor on the new machine:\n%s", r.Out)
	}
}

// redirectName makes the receiver's name resolve to another machine.
func (f *fleet) redirectName(to *lab.Host) {
	f.t.Helper()
	for _, m := range append([]*lab.Host{to}, f.hosts...) {
		m.Run(fmt.Sprintf(`sed '/collector\.lab/d' /etc/hosts > /tmp/hosts && echo '%s collector.lab collector' >> /tmp/hosts && `+
			`cat /tmp/hosts > /etc/hosts`, to.Addr))
	}
}

func countEpisodes(rows []row, host string) (n int) {
	for _, r := range rows {
		if r.Host == host {
			n++
		}
	}
	return n
}
