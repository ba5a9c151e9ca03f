//go:build e2e

package e2e

import (
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestPowerOffAndOn: the whole fleet is switched off, cleanly and not, and on
// again: everything comes back by itself, nothing is lost, nothing is there twice.
func TestPowerOffAndOn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01", "lab-02", "lab-03")
	for _, h := range f.hosts {
		h.Write("/etc/cis490/lab-host.toml", quickRest(h), 0o644)
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
		t.Logf("%s and on again: all hosts ship", off.name)
		f.nothingLostNothingTwice()
	}
}

// quickRest is the host's config with a short rest between episodes.
func quickRest(h *lab.Host) string {
	return h.Run(`sed 's/^# *rest = .*/rest = "1s"/' /etc/cis490/lab-host.toml`) + "\n"
}
