//go:build e2e

package e2e

import (
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestPowerOffAndOn switches the whole fleet off and on, first cleanly, then by a crash.
// Everything recovers by itself, and each episode is stored once.
func TestPowerOffAndOn(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01", "lab-02", "lab-03")
	for _, h := range f.hosts {
		h.Write("/etc/cis490/lab-host.toml", shortRestConfig(h), 0o644)
		h.Run("systemctl restart cis490-orchestrator")
		f.waitAccepted(h, 2, 60*time.Second)
	}
	all := append([]*lab.Host{f.rx}, f.hosts...)
	for _, off := range []struct {
		name string
		do   func(*lab.Host)
	}{{"powered off", (*lab.Host).PowerOff}, {"crashed", (*lab.Host).Crash}} {
		before := map[string]int{}
		for _, r := range f.index() {
			before[r.Host]++
		}
		for _, h := range all {
			off.do(h)
		}
		for _, h := range all {
			h.Start()
		}
		for _, h := range f.hosts {
			f.waitAccepted(h, before[h.Name]+2, 90*time.Second)
		}
		t.Logf("%s and started: all hosts ship", off.name)
		f.checkEachStoredOnce()
	}
}

// shortRestConfig returns the host's config with a short rest between episodes.
func shortRestConfig(h *lab.Host) string {
	return h.Run(`sed 's/^# *rest = .*/rest = "1s"/' /etc/cis490/lab-host.toml`) + "\n"
}
