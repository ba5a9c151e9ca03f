//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident15_SlowClock: a host whose clock is two days slow enrolls, ships and renews
// like others. It is not silent, because the receiver's clock counts.
// cert-fetch, doctor and the receiver report the offset; when it stops recording, the
// alert names the clock. After a correction of the clock, everything still works. The clock
// is that of the host's program; TestClock_AheadAtEnrollment has a virtual machine.
func TestIncident15_SlowClock(t *testing.T) { wrongClock(t, "slow", -48*time.Hour) }

// TestIncident15_FastClock is TestIncident15_SlowClock in the other direction.
func TestIncident15_FastClock(t *testing.T) { wrongClock(t, "fast", 48*time.Hour) }

func wrongClock(t *testing.T, name string, off time.Duration) {
	inLane(t)
	f := newSite(t, fmt.Sprintf("[fleet]\nsilent_after = %q\n", silentAfter), name)
	f.rx.Push(lab.BinaryWith(t, "0.0.0-lab", commitOf("own clock"), lab.OwnClock(t)), "/root/cis490")
	f.rx.Run("cd /root && ./cis490 install receiver")
	setTimer(f.rx, "cis490-fleet-health", checkEvery)
	f.rx.Run("cis490 token create " + name + " --out /root/join.sh")
	script := f.rx.Read("/root/join.sh")
	g := f.hosts[0]
	g.StepClock(off)
	g.Write("/etc/cis490/experiment.toml", shortExperiment, 0o644)
	g.Write("/etc/cis490/lab-host.toml", busyConfig(name, 5*time.Second, authorityURL)+"[ship]\nping_every = \"15s\"\n", 0o644)
	began := time.Now()
	t.Log(g.Run(script))
	f.rx.Eventually(3*time.Minute, "two episodes of "+name, fmt.Sprintf(`test $(grep -c '"host":"%s"' /var/lib/cis490/index.jsonl) -ge 2`,
		name))
	checkClockReported(t, f, g, off)
	detected := time.Since(began)
	if r := g.Try("cis490 cert-fetch --renew && cis490 cert-fetch --status"); r.Code != 0 {
		t.Errorf("%s cannot renew: %s", name, r)
	}
	for _, a := range f.open() {
		if a.Host == name && a.Symptom == "silent" {
			t.Errorf("%s ships, yet: %+v", name, a)
		}
	}
	g.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-orchestrator") // a run under way would start it again
	a := f.waitAlert(4*time.Minute, name, "silent", "clock")
	t.Logf("%s; fix: %s", a.Reason, a.Fix)

	// A person, or a time server, corrects the clock.
	g.StepClock(0)
	g.Run("systemctl start cis490-orchestrator cis490-autoupdate.timer")
	over := time.Now()
	f.waitAllResolved(3*time.Minute, name)
	reportTimes(t, detected, time.Since(over))
	before := strings.Count(f.rx.Read("/var/lib/cis490/index.jsonl"), `"host":"`+name+`"`)
	f.rx.Eventually(3*time.Minute, "episodes after the clock was put right",
		fmt.Sprintf(`test $(grep -c '"host":"%s"' /var/lib/cis490/index.jsonl) -ge %d`, name, before+2))
	if r := g.Try("cis490 cert-fetch --renew && cis490 doctor --only clock.offset"); r.Code != 0 {
		t.Errorf("%s with a correct clock: %s", name, r)
	}
}

// checkClockReported checks that the guest and the receiver report the guest's offset.
func checkClockReported(t *testing.T, f *fleet, g *lab.Host, off time.Duration) {
	t.Helper()
	if j := g.Run("journalctl --no-pager -u cis490-cert-fetch"); !strings.Contains(j, "this machine's clock differs") {
		t.Errorf("%s: cert-fetch does not report the clock:\n%s", g.Name, j)
	}
	if r := g.Try("cis490 doctor --only clock.offset"); r.Code != 1 || !strings.Contains(r.Out, "fix:") {
		t.Errorf("%s: doctor does not fail clock.offset: %s", g.Name, r)
	}
	g.Run("cis490 ship --ping")
	out := f.rx.Eventually(30*time.Second, "the clock offset of "+g.Name, `jq -e '.hosts["`+g.Name+`"].clock_offset_seconds | `+
		`select(. != 0)' /var/lib/cis490/contacts.json`)
	var seconds float64
	if _, err := fmt.Sscan(out, &seconds); err != nil || math.Abs(seconds-off.Seconds()) > 300 {
		t.Errorf("%s: the receiver sees an offset of %s s, %v", g.Name, out, err)
	}
	t.Logf("%s: the receiver shows a clock offset of %s s", g.Name, out)
}
