//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident13_HostDiskFull: a host records while its receiver is unreachable, until its
// disk is nearly full. The recorder pauses before it uses the reserve. When the receiver
// is back, shipping frees space and recording resumes, without action on the host.
func TestIncident13_HostDiskFull(t *testing.T) {
	inLane(t)
	f := newFleet(t)
	h := f.Boot("lab-01", smallDisk)
	f.hosts = []*lab.Host{h}
	f.join(h)
	setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{
		"disk_reserve": "64 MiB", "rest": "1s", "shipped_keep_bytes": "8 MiB",
		"reconcile_every": "10s",
	})
	stopRecording(h)

	f.rx.CutOff()
	h.Run("systemctl start cis490-orchestrator")
	addEpisodes(h, 45, 4<<10)
	began := time.Now()
	h.Eventually(2*time.Minute, "recording pauses", "journalctl -u cis490-orchestrator | "+
		"grep 'not recording.*less than the reserve of 64 MiB'")
	detected := time.Since(began)
	if r := h.Try("cis490 doctor --only disk.reserve"); r.Code != 1 || !strings.Contains(r.Out, "fix:") {
		t.Errorf("doctor does not fail disk.reserve: %s", r)
	}
	before := recordingCount(h)
	time.Sleep(40 * time.Second) // the recorder checks every 30 s
	if now := recordingCount(h); now != before {
		t.Errorf("recording %s began below the reserve, the last one before was %s", now, before)
	}
	if n := freeMiB(h); n < 16 {
		t.Errorf("the reserve was used up: %d MiB are free", n)
	}
	f.rx.Reconnect()
	back := time.Now()
	h.Eventually(4*time.Minute, "shipping frees space", "test $(df --output=avail -B1M /var/lib/cis490 | tail -1) -gt 64")
	h.Eventually(2*time.Minute, "recording resumes", fmt.Sprintf("test $(cat %s/episodes/.counter) -gt %s", spool, before))
	healed := time.Since(back)
	h.Run("systemctl stop cis490-orchestrator")
	waitDrained(h, 3*time.Minute)
	if r := h.Try("journalctl --no-pager -u 'cis490-*' | grep -i 'no space left'"); r.Out != "" {
		t.Errorf("the disk was full: %s", r.Out)
	}
	f.checkReconciled(h)
	f.checkEachStoredOnce()
	reportTimes(t, detected, healed)
}
