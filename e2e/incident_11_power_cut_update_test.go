//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// milestones are how far an update has come when a cut is aimed.
var milestones = []string{
	"ls /opt/cis490/state/fetch | grep -q . || test -e /opt/cis490/versions/VERSION",
	"test -e /opt/cis490/versions/VERSION/cis490",
	`jq -e ".trial.version == \"VERSION\"" /opt/cis490/state/autoupdate.json >/dev/null`,
	`jq -e ".trial.phase == \"observing\"" /opt/cis490/autoupdate.json >/dev/null`,
}

// laterThan is how much later it comes at most.
const laterThan = 10 * time.Second

// TestIncident11_PowerCutUpdate: the power of a virtual machine is cut at random moments of
// fetching, applying and judging, and its page cache is lost. What current and good
// name always runs, and the machine comes to the newest release in the end.
func TestIncident11_PowerCutUpdate(t *testing.T) {
	t.Parallel()
	lab.NeedGuests(t)
	u := newUpdates(t, nil)
	u.rx.Run("cis490 token create guest --out /root/join.sh")
	g := u.BootGuest("guest", 0)
	g.Run(u.rx.Read("/root/join.sh"))
	g.Run("cat >/etc/cis490/experiment.toml <<'end'\n" + light + "end")
	g.Run(hurried("lab-host.toml", "cis490-shipper cis490-orchestrator"))
	// An emulated processor has little to spare.
	g.Run(`sed -i 's/^rest = .*/rest = "30s"/; s/^ping_every = .*/ping_every = "15s"/' /etc/cis490/lab-host.toml && sed -i 's/^OnUnitActiveSec=10s/OnUnitActiveSec=20s/' /etc/systemd/system/cis490-autoupdate.timer.d/lab.conf && systemctl daemon-reload && systemctl restart cis490-shipper cis490-orchestrator && sync`) // what was written here by hand is not at stake
	next := func() string {
		version := fmt.Sprintf("v%d", u.seq+1)
		u.publish(version, lab.BinaryWith(t, version, commitOf(version)))
		u.rx.Run("cis490 release promote --force --seq " + fmt.Sprint(u.seq))
		return version
	}
	version := next()
	var on time.Time
	for cut, milestone := range milestones {
		g.Eventually(8*time.Minute, fmt.Sprintf("cut %d", cut+1), strings.ReplaceAll(milestone, "VERSION", version)+" || "+ended(version))
		time.Sleep(rand.N(laterThan)) // the moment is the test's input, nothing is waited for
		g.CutPower()
		g.PowerOn()
		on = time.Now()
		t.Logf("cut %d, of %s: %s", cut+1, version, runs(g))
		if g.Try(ended(version)).Code == 0 {
			version = next()
		}
	}
	g.Eventually(8*time.Minute, "the end of what was cut", ended(version))
	measured(t, 0, time.Since(on)) // until the update that was cut has come to its end
	version = next()               // in peace, whatever became of the last one
	g.Eventually(8*time.Minute, version+" in peace", `jq -e '.good.version == "`+version+`"' /opt/cis490/autoupdate.json`)
	t.Logf("in the end: %s", runs(g))
	if left := g.Run("ls /opt/cis490/versions; ls -A /opt/cis490/state/fetch"); left != version {
		t.Errorf("left: %s", left)
	}
}

// runs checks that what current and good name runs, and tells where the update
// stands.
func runs(g *lab.Guest) string {
	return g.Run(`set -e
for l in current good; do
	v=$(readlink /opt/cis490/$l)
	/opt/cis490/$l/cis490 version | grep -F "${v#versions/}"
done
cis490 version >/dev/null
jq -c '{good: .good.version, trial: .trial | {version, phase, attempts, why}, bad: [.bad[]? | {version, why}]}' /opt/cis490/state/autoupdate.json`)
}

// ended: nothing is left to do about a version: it is good here, or bad.
func ended(version string) string {
	return strings.ReplaceAll(`jq -e "(.good.version == \"VERSION\") or any(.rolled_back[]?; .version == \"VERSION\")" /opt/cis490/autoupdate.json >/dev/null`, "VERSION", version)
}
