//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestIncident14_NeverReportedAndGone: one machine enrolls and never reports, one never
// uses its token, and a third is switched off for good after shipping for a while. Each
// has an alert, also long after the lookback, until the host is decommissioned.
func TestIncident14_NeverReportedAndGone(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01", "lab-gone")
	gone := f.Host("lab-gone")
	f.rx.Run("cis490 token create --ttl 1m lab-unused")
	for _, h := range f.hosts {
		f.speedUp(h)
		f.waitAccepted(h, 1, time.Minute)
	}
	// A day is a minute here, an hour or half an hour is 30 seconds.
	const day, hour = time.Minute, 30 * time.Second
	setConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{
		"lookback": day.String(), "silent_after": hour.String(),
		"never_reported": hour.String(),
	})
	setTimer(f.rx, "cis490-fleet-health", 5*time.Second)
	f.rx.Run("cis490 config check && systemctl restart cis490-receiver")

	never := f.Boot("lab-never")
	never.Run("ln -s /dev/null /etc/systemd/system/cis490-shipper.service") // so that it never reports
	f.enroll(never)
	never.Crash()
	began := time.Now()
	gone.Crash()

	f.waitAlert(2*hour, "lab-gone", "silent", "nothing") // at first
	for host, code := range map[string]string{"lab-never": "nothing", "lab-unused": "token-unused"} {
		a := f.waitAlert(4*hour, host, "never-reported", code)
		if !strings.Contains(a.Fix, host) {
			t.Errorf("%s: %s; fix: %s", host, a.Reason, a.Fix)
		}
		t.Logf("%s after %s: %s; fix: %s", host, time.Since(began).Round(time.Second), a.Reason, a.Fix)
	}
	a := f.waitAlert(day, "lab-gone", "gone", "nothing")
	detected := time.Since(began)
	if !strings.Contains(a.Fix, "sudo cis490 host decommission lab-gone") {
		t.Errorf("lab-gone: %s; fix: %s", a.Reason, a.Fix)
	}
	t.Logf("lab-gone after %s: %s; fix: %s", time.Since(began).Round(time.Second), a.Reason, a.Fix)
	for _, line := range []string{
		"host=lab-never symptom=never-reported", "host=lab-unused symptom=never-reported",
		"host=lab-gone symptom=gone",
	} {
		f.rx.Run("journalctl -p warning -t cis490 -o cat --no-pager | grep -F 'cis490 fleet-alert " + line + "'")
	}

	time.Sleep(time.Until(began.Add(2*day + hour))) // the alerts stay open two days later
	named := map[string]string{"lab-never": "never-reported", "lab-unused": "never-reported", "lab-gone": "gone"}
	for _, a := range f.open() {
		if named[a.Host] != a.Symptom {
			t.Errorf("two days later: %+v", a)
		}
		delete(named, a.Host)
	}
	for host, symptom := range named {
		t.Errorf("two days later %s is no longer %s", host, symptom)
	}
	over := time.Now()
	for _, host := range []string{"lab-never", "lab-unused", "lab-gone"} {
		f.rx.Run("cis490 host decommission " + host)
	}
	for _, host := range []string{"lab-never", "lab-unused", "lab-gone"} {
		f.waitAllResolved(time.Minute, host)
	}
	reportTimes(t, detected, time.Since(over))
}
