//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestIncident08_SickHostRedMonitor: a sick host made the monitor's own unit fail, and
// people began to ignore failed units. Now the unit's state reports only whether
// fleet-check ran: it stays green while a host is sick, which an alert reports, and fails
// while fleet-check cannot run.
func TestIncident08_SickHostRedMonitor(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01", "lab-02")
	for _, h := range f.hosts {
		f.speedUp(h)
	}
	f.watchFleetAt(30 * time.Second)
	for _, h := range f.hosts {
		f.waitAccepted(h, 1, time.Minute)
	}
	sick := time.Now()
	f.hosts[0].Run("systemctl stop cis490-shipper")
	a := f.waitAlert(2*time.Minute, "lab-01", "silent", "failing-check")
	detected := time.Since(sick)
	t.Logf("%s; %s", a.Reason, a.Fix)

	const began = "systemctl show --value -p ExecMainStartTimestampMonotonic cis490-fleet-health.service"
	next := func() { // waits for a run of fleet-check that begins after now
		t.Helper()
		f.rx.Eventually(time.Minute, "fleet-check runs",
			"test $("+began+") -gt "+f.rx.Run(began)+" && ! systemctl is-active -q cis490-fleet-health.service")
	}
	for range 3 {
		next()
		if state := f.rx.Run("systemctl show -p Result,ExecMainStatus cis490-fleet-health.service"); state != "Result=success\nExecMainStatus=0" {
			t.Errorf("while a host is sick, the monitor's unit has %s", strings.ReplaceAll(state, "\n", ", "))
		}
		if red := f.rx.Run("systemctl list-units --failed --no-legend 'cis490-*'"); red != "" {
			t.Errorf("while a host is sick: %s", red)
		}
		f.rx.Eventually(time.Minute, "fleet-check by hand finds it, when no other one runs",
			"sudo -u cis490 cis490 fleet-check --json | jq -se '.[0].open | length > 0'")
	}

	right := f.rx.Read("/etc/cis490/receiver.toml")
	f.rx.Write("/etc/cis490/receiver.toml", right+"= nonsense\n", 0o644)
	f.rx.Eventually(time.Minute, "the unit is red, as fleet-check cannot run", "systemctl is-failed cis490-fleet-health.service")
	if why := f.rx.Run("systemctl show -p ExecMainStatus --value cis490-fleet-health.service"); why != "78" {
		t.Errorf("exit code %s of fleet-check with a broken config, want 78", why)
	}
	f.rx.Write("/etc/cis490/receiver.toml", right, 0o644)
	mended := time.Now()
	next()
	f.rx.Eventually(time.Minute, "the unit is green again", "! systemctl is-failed cis490-fleet-health.service")
	t.Logf("the unit is green %s after fleet-check can run again", time.Since(mended).Round(100*time.Millisecond))
	f.paste(a.Fix)
	cured := time.Now()
	f.waitResolved(2*time.Minute, "lab-01", "silent")
	if n := f.rx.Run(`cis490 alerts list --all --json | jq '[.[] | select(.host == "lab-02")] | length'`); n != "0" {
		t.Errorf("%s rows about the healthy host", n)
	}
	reportTimes(t, detected, time.Since(cured))
}
