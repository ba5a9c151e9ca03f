//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident17_FleetCheckStopped: fleet-check has stopped, so no alert can come, and the
// fleet seems healthy. Every host's doctor warns, and the heartbeat stops. The receiver's
// next autoupdate starts the timer again, without action on any host.
func TestIncident17_FleetCheckStopped(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01", "lab-02", "lab-03")
	office := f.Boot("office")
	office.Write("/root/webhook.pl", webhookServer, 0o644)
	office.Run("systemd-run --unit=webhook perl /root/webhook.pl")
	setConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{"heartbeat_url": "http://office.lab:8080/beat"})
	f.watchFleet()
	delayAutoupdate(f.rx) // until the hosts have warned
	office.Eventually(time.Minute, "a heartbeat with each run", "test $(grep -c 'GET /beat' /root/requests) -ge 2")
	waitDoctor(f.hosts, " ok ")

	// As if fleet-check had stopped 16 minutes ago: three runs are missed. The copy of the
	// last run is as old as the last run.
	f.rx.Run(`systemctl stop cis490-fleet-health.timer cis490-fleet-health.service && cd /var/lib/cis490 &&
rm -f /run/cis490-fleet-health/fleet-check.json* &&
jq -c '.at = (now - 16*60 | todate)' fleet-check.json >/tmp/last &&
cat /tmp/last >fleet-check.json && touch -d '16 minutes ago' fleet-check.json`)
	stopped, beats := time.Now(), office.Run("wc -l </root/requests")
	waitDoctor(f.hosts, " warn ")
	detected := time.Since(stopped)
	for _, h := range f.hosts {
		if out := h.Try("cis490 doctor --only fleetcheck.fresh").Out; !strings.Contains(out,
			"fix: on the receiver: sudo systemctl start cis490-fleet-health.timer") {
			t.Errorf("%s: doctor gives no fix: %s", h.Name, out)
		}
	}
	if out := f.rx.Run("cis490 alerts list"); !strings.Contains(out, "it should run every 5 minutes") {
		t.Errorf("alerts list looks healthy: %s", out)
	}
	time.Sleep(time.Until(stopped.Add(3 * checkEvery))) // three heartbeats' time
	if now := office.Run("wc -l </root/requests"); now != beats {
		t.Errorf("%s heartbeats when fleet-check was stopped, %s later", beats, now)
	}

	over := time.Now()
	f.rx.Run("systemctl start cis490-autoupdate.service") // as its timer does every 5 minutes
	waitDoctor(f.hosts, " ok ")
	office.Eventually(time.Minute, "the heartbeat again", "test $(wc -l </root/requests) -gt "+beats)
	reportTimes(t, detected, time.Since(over))
}

// waitDoctor waits until each host's doctor gives fleetcheck.fresh this status.
func waitDoctor(hosts []*lab.Host, status string) {
	for _, h := range hosts {
		h.Eventually(time.Minute, "doctor says"+status, "cis490 doctor --only fleetcheck.fresh | tee /tmp/out | "+
			"grep -q '"+status+".* fleetcheck.fresh' || { cat /tmp/out; false; }")
	}
}
