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

// TestIncident15_SlowClock and TestIncident15_FastClock: a virtual machine whose clock
// is two days slow, or two days fast, enrols, ships and renews like all others. As
// the receiver's time counts, it does not look silent. It is told: by cert-fetch, by
// doctor, and on the receiver; when it records no more, the alert names the clock.
// When that is put right, nothing breaks.
func TestIncident15_SlowClock(t *testing.T) { wrongClock(t, "slow", -48*time.Hour) }

// TestIncident15_FastClock is TestIncident15_SlowClock in the other direction.
func TestIncident15_FastClock(t *testing.T) { wrongClock(t, "fast", 48*time.Hour) }

func wrongClock(t *testing.T, name string, off time.Duration) {
	t.Parallel()
	lab.NeedGuests(t)
	f := site(t, fmt.Sprintf("[fleet]\nsilent_after = %q\n", silentAfter))
	f.rx.Run("cd /root && ./cis490 install receiver")
	every(f.rx, "cis490-fleet-health", checkEvery)
	f.rx.Run("cis490 token create " + name + " --out /root/join.sh")
	script := f.rx.Read("/root/join.sh")
	g := f.BootGuest(name, off)
	g.Run("mkdir -p /etc/cis490 && cat >/etc/cis490/experiment.toml <<'end'\n" + quick + "end")
	g.Run("cat >/etc/cis490/lab-host.toml <<'end'\n" + busyConfig(name, 5*time.Second, authorityURL) + "[ship]\nping_every = \"15s\"\nend")
	began := time.Now()
	t.Log(g.Run(script))
	f.rx.Eventually(3*time.Minute, "two episodes of "+name, fmt.Sprintf(`test $(grep -c '"host":"%s"' /var/lib/cis490/index.jsonl) -ge 2`, name))
	told(t, f, g, off)
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
	a := f.waitOpen(4*time.Minute, name, "silent", "clock")
	t.Logf("%s; fix: %s", a.Reason, a.Fix)

	// A person, or a time server, puts it right.
	g.Run(fmt.Sprintf("date -s @%d && systemctl start cis490-orchestrator cis490-autoupdate.timer", time.Now().Unix()))
	over := time.Now()
	f.waitWell(3*time.Minute, name)
	measured(t, detected, time.Since(over))
	before := strings.Count(f.rx.Read("/var/lib/cis490/index.jsonl"), `"host":"`+name+`"`)
	f.rx.Eventually(3*time.Minute, "episodes after the clock was put right",
		fmt.Sprintf(`test $(grep -c '"host":"%s"' /var/lib/cis490/index.jsonl) -ge %d`, name, before+2))
	if r := g.Try("cis490 cert-fetch --renew && cis490 doctor --only clock.offset"); r.Code != 0 {
		t.Errorf("%s with a right clock: %s", name, r)
	}
}

// told: the guest and the receiver both say that the guest's clock is off.
func told(t *testing.T, f *fleet, g *lab.Guest, off time.Duration) {
	t.Helper()
	if j := g.Run("journalctl --no-pager -u cis490-cert-fetch"); !strings.Contains(j, "this machine's clock differs") {
		t.Errorf("%s: cert-fetch does not say it:\n%s", g.Name, j)
	}
	if r := g.Try("cis490 doctor --only clock.offset"); r.Code != 1 || !strings.Contains(r.Out, "fix:") {
		t.Errorf("%s: doctor does not say it: %s", g.Name, r)
	}
	g.Run("cis490 ship --ping")
	out := f.rx.Eventually(30*time.Second, "the clock offset of "+g.Name, `jq -e '.hosts["`+g.Name+`"].clock_offset_seconds | select(. != 0)' /var/lib/cis490/contacts.json`)
	var seconds float64
	if _, err := fmt.Sscan(out, &seconds); err != nil || math.Abs(seconds-off.Seconds()) > 300 {
		t.Errorf("%s: the receiver sees an offset of %s s, %v", g.Name, out, err)
	}
	t.Logf("%s: clock off by %s s, and told", g.Name, out)
}
