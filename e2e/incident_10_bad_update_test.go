//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident10_BadUpdate: a release with other units starts on its canary and fails
// during its trial. The canary's power is cut in that trial, and it stays off for a while.
// Back on, it rolls back binary and units; the release is withdrawn, and no other host has
// taken it.
func TestIncident10_BadUpdate(t *testing.T) {
	inLane(t)
	u := newBadUpdates(t)
	late := atShipStart("\t\tgo func() { time.Sleep(17 * time.Second); panic(\"bad release: late again\") }()")
	units := edit{"assets/units/cis490-shipper.service.tmpl", "Nice=10", "Nice=10\nEnvironment=BAD=1"}
	var on time.Time
	withdrawn, back := u.checkRollback(badRelease{"bad-cut", nil, []edit{late, units}, "cis490-shipper.service"}, func(canary *lab.Host) {
		canary.Eventually(90*time.Second, "the trial is observed", `jq -e '.trial.phase == "observing"' /opt/cis490/autoupdate.json`)
		if env := canary.Run("systemctl show -p Environment --value cis490-shipper"); !strings.Contains(env, "BAD=1") {
			t.Errorf("the release's unit has Environment=%s", env)
		}
		canary.Crash()
		u.rx.Run("sleep 15; cis490 release list") // the rollout waits for the canary
		canary.Start()
		on = time.Now()
	})
	reportTimes(t, withdrawn.Sub(on), back.Sub(on))
	u.quiesce()
	u.checkEachStoredOnce()
}

// TestIncident10_CanaryOff: when the canary loses power during its trial and stays off,
// the rollout continues with another canary. When the first is back, its update continues.
func TestIncident10_CanaryOff(t *testing.T) {
	inLane(t)
	u := newUpdates(t, []string{"lab-01", "lab-02", "lab-03"})
	u.rx.Run(`sed -i 's/^# canary_heard = .*/canary_heard = "20s"/' /etc/cis490/receiver.toml && systemctl restart cis490-receiver`)
	stopAutoupdate(u.rx)
	for _, h := range u.hosts {
		h.Run("cis490 ship --ping")
	}
	u.publish("v2", lab.BinaryWith(t, "v2", commitOf("v2")))
	u.rx.Run("cis490 release promote --seq 2")
	off := u.waitCanary("v2")
	off.Eventually(60*time.Second, "v2 is on trial", onTrial("v2"))
	off.Crash()
	u.waitStage("v2", "all", 3*time.Minute)
	if canaries := u.rx.Run(`cis490 release list --json | jq '.[] | select(.version == "v2") | .canaries | length'`); canaries != "2" {
		t.Errorf("%s canaries, want two", canaries)
	}
	for _, h := range u.hosts {
		if h != off {
			u.waitVersion(h, "v2", 2*time.Minute)
		}
	}
	off.Start()
	u.waitVersion(off, "v2", 2*time.Minute)
	u.quiesce()
	u.checkEachStoredOnce()
}
