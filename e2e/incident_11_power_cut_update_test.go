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

const (
	rounds      = 3               // updates, each with a cut after each milestone
	maxCutDelay = 3 * time.Second // the longest time from a milestone to its cut
)

// TestIncident11_PowerCutUpdate cuts a host's power at random moments while it fetches,
// applies and tries an update. The versions that current and good point to always run, and
// at the end the host runs the newest release.
func TestIncident11_PowerCutUpdate(t *testing.T) {
	inLane(t)
	u := newUpdates(t, []string{"lab-01"}, lab.WithDisk("4G"))
	g := u.hosts[0]
	g.Run("sync") // the test's edits are not under test
	next := func() string {
		version := fmt.Sprintf("v%d", u.seq+1)
		u.publish(version, lab.BinaryWith(t, version, commitOf(version)))
		u.rx.Run("cis490 release promote --force --seq " + fmt.Sprint(u.seq))
		return version
	}
	for range rounds {
		version := next()
		var on time.Time
		for cut, milestone := range milestones {
			g.Eventually(2*time.Minute, fmt.Sprintf("cut %d", cut+1), strings.ReplaceAll(milestone, "VERSION", version)+" || "+updateEnded(version))
			time.Sleep(rand.N(maxCutDelay)) // the random moment is the test's input
			g.CutPower()
			g.Start()
			on = time.Now()
			t.Logf("cut %d, of %s: %s", cut+1, version, checkRuns(g))
		}
		g.Eventually(2*time.Minute, "the interrupted update has ended", updateEnded(version))
		reportTimes(t, 0, time.Since(on))
	}
	version := next() // without a cut
	g.Eventually(2*time.Minute, version+" is good", `jq -e '.good.version == "`+version+`"' /opt/cis490/autoupdate.json`)
	t.Logf("at the end: %s", checkRuns(g))
	if left := g.Run("ls /opt/cis490/versions; ls -A /opt/cis490/state/fetch"); left != version {
		t.Errorf("left: %s", left)
	}
}

// checkRuns checks that the versions that current and good point to run, and returns the
// state of the update.
func checkRuns(g *lab.Host) string {
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
