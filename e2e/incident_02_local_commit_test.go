//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident02_LocalCommit: a host ran a commit that somebody had made on it. It
// recorded 31,738 episodes in 19 hours, and all were refused. Now the recorder asks
// the gate first and records nothing, loudly; the update timer puts a released build
// back.
func TestIncident02_LocalCommit(t *testing.T) {
	t.Parallel()
	u := newUpdates(t, []string{"lab-01"})
	h := u.hosts[0]
	u.watchedAt(30 * time.Second)
	unmended(h) // so that there is time to see what the host does
	h.Push(lab.BinaryWith(t, "v1-local", commitOf("local")), "/root/local")
	changed := time.Now()
	h.Run("/root/local install lab-host")
	before := recorded(h)
	h.Eventually(time.Minute, "the recorder says loudly why it stopped",
		"journalctl -u cis490-orchestrator -p warning --no-pager | grep 'level=WARN.*not recording.*the gate rejects commit "+commitOf("local")+"'")
	detected := time.Since(changed)
	if r := h.Try("cis490 doctor --only gate.commit"); r.Code != 1 {
		t.Errorf("doctor about the gate: %s", r)
	}
	a := u.waitOpen(2*time.Minute, "lab-01", "silent", "gated")
	t.Logf("%s; %s", a.Reason, a.Fix)
	if now := recorded(h); now != before {
		t.Errorf("recording %s was begun after the gate's no, the last one was %s", now, before)
	}

	due := time.Now()
	every(h, "cis490-autoupdate", 8*time.Second)
	u.on(h, "v1", 3*time.Minute)
	n := len(u.index())
	u.rx.Eventually(time.Minute, "an episode of the release", fmt.Sprintf("tail -n +%d /var/lib/cis490/index.jsonl | grep %s", n+1, commitOf("v1")))
	healed := time.Since(due)
	u.waitWell(time.Minute, "lab-01")
	u.quiet()
	emptied(h, time.Minute) // nothing of the local commit is held either
	if r := u.rx.Try("grep " + commitOf("local") + " /var/lib/cis490/rejections.jsonl /var/lib/cis490/index.jsonl"); r.Code != 1 {
		t.Errorf("episodes of the local commit were sent: %s", r)
	}
	u.equal(h)
	u.nothingLostNothingTwice()
	measured(t, detected, healed)
}
