//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident17_FleetCheckStopped: fleet-check itself has stopped, so no alert can
// come, and silence looks like health. Every host's doctor says so, and whoever
// listens to the heartbeat hears it no more. The receiver's next update run starts
// the timer again; nobody touches a host.
func TestIncident17_FleetCheckStopped(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01", "lab-02", "lab-03")
	office := f.Boot("office")
	office.Write("/root/ear.pl", ear, 0o644)
	office.Run("systemd-run --unit=ear perl /root/ear.pl")
	set(f.rx, "/etc/cis490/receiver.toml", map[string]string{"heartbeat_url": "http://office.lab:8080/beat"})
	f.watched()
	unmended(f.rx) // until a person was told
	office.Eventually(time.Minute, "a heartbeat with each run", "test $(grep -c 'GET /beat' /root/heard) -ge 2")
	doctors(f.hosts, " ok ")

	// As if it had been so for 16 minutes: three runs of one every 5 minutes are missed. The
	// copy of the last run is as old as the last run.
	f.rx.Run(`systemctl stop cis490-fleet-health.timer cis490-fleet-health.service && cd /var/lib/cis490 &&
rm -f /run/cis490-fleet-health/fleet-check.json* &&
jq -c '.at = (now - 16*60 | todate)' fleet-check.json >/tmp/last && cat /tmp/last >fleet-check.json && touch -d '16 minutes ago' fleet-check.json`)
	stopped, beats := time.Now(), office.Run("wc -l </root/heard")
	doctors(f.hosts, " warn ")
	detected := time.Since(stopped)
	for _, h := range f.hosts {
		if said := h.Try("cis490 doctor --only fleetcheck.fresh").Out; !strings.Contains(said, "fix: on the receiver: sudo systemctl start cis490-fleet-health.timer") {
			t.Errorf("%s: doctor gives no fix: %s", h.Name, said)
		}
	}
	if said := f.rx.Run("cis490 alerts list"); !strings.Contains(said, "it should run every 5 minutes") {
		t.Errorf("alerts list looks healthy: %s", said)
	}
	time.Sleep(time.Until(stopped.Add(3 * checkEvery))) // three heartbeats' time
	if now := office.Run("wc -l </root/heard"); now != beats {
		t.Errorf("%s heartbeats when fleet-check was stopped, %s later", beats, now)
	}

	over := time.Now()
	f.rx.Run("systemctl start cis490-autoupdate.service") // as its timer does every 5 minutes
	doctors(f.hosts, " ok ")
	office.Eventually(time.Minute, "the heartbeat again", "test $(wc -l </root/heard) -gt "+beats)
	measured(t, detected, time.Since(over))
}

// doctors waits until each host's doctor says this of the receiver's fleet-check.
func doctors(hosts []*lab.Host, status string) {
	for _, h := range hosts {
		h.Eventually(time.Minute, "doctor says"+status, "cis490 doctor --only fleetcheck.fresh | tee /tmp/said | grep -q '"+status+".* fleetcheck.fresh' || { cat /tmp/said; false; }")
	}
}
