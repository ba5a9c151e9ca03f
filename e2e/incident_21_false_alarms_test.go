//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// TestIncident21_FalseAlarms: a laptop sleeps for longer than a host may be silent,
// and the receiver is down for as long. Half an hour is a minute here. The laptop
// has left cleanly, which is noted and nobody is told of; the receiver's own time
// away is not held against any host, nor is what waited for it meanwhile.
func TestIncident21_FalseAlarms(t *testing.T) {
	t.Parallel()
	const halfHour = time.Minute
	f := newFleet(t, "lab-01", "lab-02", "laptop")
	for _, h := range f.hosts {
		f.quick(h)
	}
	for _, h := range f.hosts[:2] { // an episode may wait for half an hour, too
		h.Run(`sed -i 's/^outbox_oldest = .*/outbox_oldest = "1m"/' /etc/cis490/lab-host.toml && systemctl restart cis490-shipper`)
	}
	f.watchedAt(halfHour)
	for _, h := range f.hosts {
		f.waitAccepted(h, 1, 2*time.Minute)
	}
	laptop := f.Host("laptop")
	laptop.PowerOff()
	slept := time.Now()
	f.rx.Run("systemctl restart cis490-receiver")
	a := f.waitOpen(2*halfHour+4*checkEvery, "laptop", "silent", "left")
	if !a.Quiet {
		t.Errorf("somebody is told of a laptop that sleeps: %+v", a)
	}
	detected := time.Since(slept)
	t.Logf("%s; fix: %s", a.Reason, a.Fix)

	f.rx.PowerOff()
	time.Sleep(halfHour * 3 / 2) // three quarters of an hour
	f.rx.Start()
	laptop.Start()
	back := time.Now()
	time.Sleep(4 * checkEvery) // who was silent for as long as that is judged again
	f.rx.Eventually(2*time.Minute, "no open alert", `cis490 alerts list --json | jq -se '.[0] == []'`)
	measured(t, detected, time.Since(back))
	for _, a := range f.rows() {
		if !a.Quiet || a.Host != "laptop" || a.Symptom != "silent" {
			t.Errorf("a false alarm: %+v", a)
		}
	}
	if lines := f.rx.Try("journalctl -t cis490 -g 'cis490 fleet-alert' --no-pager -o cat"); lines.Code == 0 {
		t.Errorf("the journal tells of a healthy fleet:\n%s", lines.Out)
	}
	f.settle()
	f.nothingLostNothingTwice()
}
