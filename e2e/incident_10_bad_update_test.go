//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident10_BadUpdate: a release starts well on its canary and fails in the
// midst of its trial; its units are others, too. The canary's power is cut in
// mid-trial, and it is off for a while. Back on, it rolls back binary and units; the
// release is withdrawn, and the other hosts never took it.
func TestIncident10_BadUpdate(t *testing.T) {
	t.Parallel()
	u := newBadUpdates(t)
	late := atShipStart("\t\tgo func() { time.Sleep(17 * time.Second); panic(\"bad release: late again\") }()")
	units := edit{"assets/units/cis490-shipper.service.tmpl", "Nice=10", "Nice=10\nEnvironment=BAD=1"}
	var on time.Time
	withdrawn, back := u.fails(bad{"bad-cut", nil, []edit{late, units}, "cis490-shipper.service"}, func(canary *lab.Host) {
		canary.Eventually(90*time.Second, "the trial is observed", `jq -e '.trial.phase == "observing"' /opt/cis490/autoupdate.json`)
		if env := canary.Run("systemctl show -p Environment --value cis490-shipper"); !strings.Contains(env, "BAD=1") {
			t.Errorf("the release's unit has Environment=%s", env)
		}
		canary.Crash()
		u.rx.Run("sleep 15; cis490 release list") // the rollout waits for it
		canary.Start()
		on = time.Now()
	})
	measured(t, withdrawn.Sub(on), back.Sub(on))
	u.quiet()
	u.nothingLostNothingTwice()
}

// TestIncident10_CanaryOff: when the canary's power is cut in mid-trial and it stays
// off, the rollout goes on with another one; when it is back, it goes on too.
func TestIncident10_CanaryOff(t *testing.T) {
	t.Parallel()
	u := newUpdates(t, []string{"lab-01", "lab-02", "lab-03"})
	u.rx.Run(`sed -i 's/^# canary_heard = .*/canary_heard = "20s"/' /etc/cis490/receiver.toml && systemctl restart cis490-receiver`)
	hold(u.rx)
	for _, h := range u.hosts {
		h.Run("cis490 ship --ping")
	}
	u.publish("v2", lab.BinaryWith(t, "v2", commitOf("v2")))
	u.rx.Run("cis490 release promote --seq 2")
	off := u.canary("v2")
	off.Eventually(60*time.Second, "v2 is on trial", tries("v2"))
	off.Crash()
	u.stage("v2", "all", 3*time.Minute)
	if canaries := u.rx.Run(`cis490 release list --json | jq '.[] | select(.version == "v2") | .canaries | length'`); canaries != "2" {
		t.Errorf("%s canaries, want two", canaries)
	}
	for _, h := range u.hosts {
		if h != off {
			u.on(h, "v2", 2*time.Minute)
		}
	}
	off.Start()
	u.on(off, "v2", 2*time.Minute)
	u.quiet()
	u.nothingLostNothingTwice()
}
