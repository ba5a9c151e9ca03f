//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident02_LocalCommit: a host ran a commit made on that host. It recorded 31,738
// episodes in 19 hours, and all were refused. Now the recorder asks the gate first, records
// nothing and logs a warning; the update timer restores a released build.
func TestIncident02_LocalCommit(t *testing.T) {
	inLane(t)
	u := newUpdates(t, []string{"lab-01"})
	h := u.hosts[0]
	u.watchFleetAt(30 * time.Second)
	delayAutoupdate(h) // so that the scenario sees the host before its repair
	h.Push(lab.BinaryWith(t, "v1-local", commitOf("local")), "/root/local")
	changed := time.Now()
	h.Run("/root/local install lab-host")
	before := recordingCount(h)
	h.Eventually(time.Minute, "the recorder warns that it stopped, with the reason",
		"journalctl -u cis490-orchestrator -p warning --no-pager | "+
			"grep 'level=WARN.*not recording.*the gate rejects commit "+commitOf("local")+"'")
	detected := time.Since(changed)
	if r := h.Try("cis490 doctor --only gate.commit"); r.Code != 1 {
		t.Errorf("doctor does not fail gate.commit: %s", r)
	}
	a := u.waitAlert(2*time.Minute, "lab-01", "silent", "gated")
	t.Logf("%s; %s", a.Reason, a.Fix)
	if now := recordingCount(h); now != before {
		t.Errorf("recording %s began although the gate rejects the commit, the last one before was %s", now, before)
	}

	due := time.Now()
	setTimer(h, "cis490-autoupdate", 8*time.Second)
	u.waitVersion(h, "v1", 3*time.Minute)
	n := len(u.index())
	u.rx.Eventually(time.Minute, "an episode of the release", fmt.Sprintf(u.state("index.jsonl")+" | tail -n +%d | grep %s", n+1,
		commitOf("v1")))
	healed := time.Since(due)
	u.waitAllResolved(time.Minute, "lab-01")
	u.quiesce()
	waitDrained(h, time.Minute) // no episode of the local commit is held either
	if r := u.rx.Try("{ " + u.state("rejections.jsonl") + "; " + u.state("index.jsonl") + "; } | grep " + commitOf("local")); r.Code != 1 {
		t.Errorf("episodes of the local commit were sent: %s", r)
	}
	u.checkReconciled(h)
	u.checkEachStoredOnce()
	reportTimes(t, detected, healed)
}
