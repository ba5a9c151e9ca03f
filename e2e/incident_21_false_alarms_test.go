//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// TestIncident21_FalseAlarms: a laptop is off for longer than a host may be silent, and
// later the receiver is down for as long. Half an hour is a minute here. The laptop has
// left cleanly: its alert notifies nobody. The receiver's downtime raises no alert of any
// host, nor do the episodes that waited for it.
func TestIncident21_FalseAlarms(t *testing.T) {
	inLane(t)
	const halfHour = time.Minute
	f := newFleet(t, "lab-01", "lab-02", "laptop")
	for _, h := range f.hosts {
		f.speedUp(h)
	}
	for _, h := range f.hosts[:2] { // episodes may wait for half an hour
		h.Run(`sed -i 's/^outbox_oldest = .*/outbox_oldest = "1m"/' /etc/cis490/lab-host.toml && systemctl restart cis490-shipper`)
	}
	f.watchFleetAt(halfHour)
	for _, h := range f.hosts {
		f.waitAccepted(h, 1, 2*time.Minute)
	}
	laptop := f.Host("laptop")
	laptop.PowerOff()
	slept := time.Now()
	f.rx.Run("systemctl restart cis490-receiver")
	a := f.waitAlert(2*halfHour+4*checkEvery, "laptop", "silent", "left")
	if !a.Quiet {
		t.Errorf("the alert of a laptop that left is not quiet: %+v", a)
	}
	detected := time.Since(slept)
	t.Logf("%s; fix: %s", a.Reason, a.Fix)

	f.rx.PowerOff()
	time.Sleep(halfHour * 3 / 2) // three quarters of an hour
	f.rx.Start()
	laptop.Start()
	back := time.Now()
	time.Sleep(4 * checkEvery) // until fleet-check judges hosts after the downtime
	f.rx.Eventually(2*time.Minute, "no open alert", `cis490 alerts list --json | jq -se '.[0] == []'`)
	reportTimes(t, detected, time.Since(back))
	for _, a := range f.rows() {
		if !a.Quiet || a.Host != "laptop" || a.Symptom != "silent" {
			t.Errorf("a false alarm: %+v", a)
		}
	}
	if lines := f.rx.Try("journalctl -t cis490 -g 'cis490 fleet-alert' --no-pager -o cat"); lines.Code == 0 {
		t.Errorf("the journal has alerts of a healthy fleet:\n%s", lines.Out)
	}
	f.drain()
	f.checkEachStoredOnce()
}
