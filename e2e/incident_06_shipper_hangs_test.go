//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// hang stops the shipper two seconds after each start: it has pinged the receiver, and
// hangs in the middle of an upload.
const hang = `systemd-run --quiet --unit=hang sh -c '
last=0
while sleep 0.2; do
	pid=$(systemctl show -p MainPID --value cis490-shipper)
	test $pid != 0 -a $pid != $last && systemctl is-active --quiet cis490-shipper || continue
	sleep 2; kill -STOP $pid; last=$pid
done'`

// TestIncident06_ShipperHangs: the shipper hung while systemd showed it as active, the
// backlog grew, and nobody noticed. Now the watchdog, which only progress resets, restarts
// the shipper. If it hangs repeatedly, an alert reports the growing backlog. The watchdog
// expires after 20 seconds here instead of three minutes.
func TestIncident06_ShipperHangs(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	h.Write("/etc/systemd/system/cis490-shipper.service.d/lab.conf", "[Service]\nWatchdogSec=20\nRestartSec=1\n", 0o644)
	h.Run("systemctl daemon-reload")
	setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"bandwidth_per_second": "256 KiB"})
	stopRecording(h)
	f.watchFleetAt(70 * time.Second)

	restarts := func() string { return h.Run("systemctl show -p NRestarts --value cis490-shipper") }
	if n := restarts(); n != "0" {
		t.Fatalf("%s restarts of a shipper that is well", n)
	}
	addEpisodes(h, 3, 1<<10)
	h.Eventually(time.Minute, "an upload is under way", "ls "+spool+"/outbox/*.tar.zst")
	hung := time.Now()
	h.Run("kill -STOP $(systemctl show -p MainPID --value cis490-shipper)")
	if state := h.Run("systemctl is-active cis490-shipper"); state != "active" {
		t.Errorf("systemd shows a hanging shipper as %s, want active as in the incident", state)
	}
	h.Eventually(time.Minute, "the watchdog notices", "journalctl -u cis490-shipper | grep -q 'Watchdog timeout'")
	detected := time.Since(hung)
	waitDrained(h, 2*time.Minute) // a restarted shipper sends the episode it was packing last
	healed := time.Since(hung) - detected
	if n := restarts(); n != "1" {
		t.Errorf("%s restarts, want 1", n)
	}

	h.Run(hang)
	began := time.Now()
	symptom := `cis490 alerts list --json | jq -se 'any(.[0][]; .host == "lab-01" and .symptom == "backlog-growing")'`
	for f.rx.Try(symptom).Code != 0 {
		if time.Since(began) > 4*time.Minute {
			t.Fatalf("no alert of a growing backlog: %s\n%s", f.rx.Run("cis490 alerts list"), h.Journal("cis490-shipper"))
		}
		addEpisodes(h, 3, 1<<10)
		time.Sleep(10 * time.Second)
	}
	a := f.waitAlert(time.Minute, "lab-01", "backlog-growing", "backlog")
	t.Logf("repeated hangs: after %s: %s; %s", time.Since(began).Round(time.Second), a.Reason, a.Fix)
	if !strings.Contains(a.Reason, "shipping hangs") || !strings.HasPrefix(a.Fix, "on lab-01: ") {
		t.Errorf("the alert does not name the cause and the host: %+v", a)
	}
	h.Run("systemctl stop hang")
	h.Run("sed -i 's/^bandwidth_per_second.*/bandwidth_per_second = \"0 B\"/' /etc/cis490/lab-host.toml")
	waitDrained(h, 4*time.Minute)
	f.checkReconciled(h)
	f.checkEachStoredOnce()
	f.waitResolved(time.Minute, "lab-01", "backlog-growing")
	reportTimes(t, detected, healed)
}
