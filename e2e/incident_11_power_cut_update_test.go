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

// milestones are the states of an update before the power cuts.
var milestones = []string{
	"ls /opt/cis490/state/fetch | grep -q . || test -e /opt/cis490/versions/VERSION",
	"test -e /opt/cis490/versions/VERSION/cis490",
	`jq -e ".trial.version == \"VERSION\"" /opt/cis490/state/autoupdate.json >/dev/null`,
	`jq -e ".trial.phase == \"observing\"" /opt/cis490/autoupdate.json >/dev/null`,
}

// maxCutDelay is the longest time from a milestone to its cut.
const maxCutDelay = 10 * time.Second

// TestIncident11_PowerCutUpdate cuts a virtual machine's power at random moments while it
// fetches, applies and tries an update. The versions that current and good point to always
// run, and at the end the machine runs the newest release.
func TestIncident11_PowerCutUpdate(t *testing.T) {
	inLane(t)
	lab.NeedGuests(t)
	u := newUpdates(t, nil)
	u.rx.Run("cis490 token create guest --out /root/join.sh")
	g := u.BootGuest("guest", 0)
	g.Run(u.rx.Read("/root/join.sh"))
	recordLight(g)
	g.Run(fastUpdates("lab-host.toml", "cis490-shipper cis490-orchestrator"))
	// An emulated processor is slow.
	// sync, because these edits are not under test.
	g.Run(`sed -i 's/^rest = .*/rest = "30s"/; s/^ping_every = .*/ping_every = "15s"/' /etc/cis490/lab-host.toml && ` +
		`sed -i 's/^OnUnitActiveSec=10s/OnUnitActiveSec=20s/' /etc/systemd/system/cis490-autoupdate.timer.d/lab.conf && ` +
		`systemctl daemon-reload && systemctl restart cis490-shipper cis490-orchestrator && sync`)
	next := func() string {
		version := fmt.Sprintf("v%d", u.seq+1)
		u.publish(version, lab.BinaryWith(t, version, commitOf(version)))
		u.rx.Run("cis490 release promote --force --seq " + fmt.Sprint(u.seq))
		return version
	}
	version := next()
	var on time.Time
	for cut, milestone := range milestones {
		g.Eventually(8*time.Minute, fmt.Sprintf("cut %d", cut+1), strings.ReplaceAll(milestone, "VERSION", version)+" || "+updateEnded(version))
		time.Sleep(rand.N(maxCutDelay)) // the random moment is the test's input
		g.CutPower()
		g.PowerOn()
		on = time.Now()
		t.Logf("cut %d, of %s: %s", cut+1, version, checkRuns(g))
		if g.Try(updateEnded(version)).Code == 0 {
			version = next()
		}
	}
	g.Eventually(8*time.Minute, "the interrupted update has ended", updateEnded(version))
	reportTimes(t, 0, time.Since(on))
	version = next() // without a cut
	g.Eventually(8*time.Minute, version+" is good", `jq -e '.good.version == "`+version+`"' /opt/cis490/autoupdate.json`)
	t.Logf("at the end: %s", checkRuns(g))
	if left := g.Run("ls /opt/cis490/versions; ls -A /opt/cis490/state/fetch"); left != version {
		t.Errorf("left: %s", left)
	}
}

// checkRuns checks that the versions that current and good point to run, and returns the
// state of the update.
func checkRuns(g *lab.Guest) string {
	return g.Run(`set -e
for l in current good; do
	v=$(readlink /opt/cis490/$l)
	/opt/cis490/$l/cis490 version | grep -F "${v#versions/}"
done
cis490 version >/dev/null
jq -c '{good: .good.version, trial: .trial | {version, phase, attempts, why}, bad: [.bad[]? | {version, why}]}' \
	/opt/cis490/state/autoupdate.json`)
}

// updateEnded returns a command that succeeds once a version is good or rolled back.
func updateEnded(version string) string {
	return strings.ReplaceAll(`jq -e "(.good.version == \"VERSION\") or any(.rolled_back[]?; `+
		`.version == \"VERSION\")" /opt/cis490/autoupdate.json >/dev/null`, "VERSION", version)
}
