//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident01_RefusedForEver: after an update of the receiver, a host re-sent
// thousands of refused episodes, one a second, for five hours, and nobody noticed. Now the
// host sends one, and one more when the gate's list changes; it holds the rest. The host
// updates itself and ships again. When the gate accepts the old commit, the held episodes
// are shipped too.
func TestIncident01_RefusedForEver(t *testing.T) {
	inLane(t)
	const waiting = 4465
	u := newUpdates(t, nil)
	h := u.add("lab-01")
	delayAutoupdate(h)
	u.watchFleetAt(40 * time.Second)
	// The host runs v0, which was never published; the config accepts its commit.
	h.Push(lab.BinaryWith(t, "v0", commitOf("v0")), "/root/v0")
	right := u.rx.Read("/etc/cis490/receiver.toml")
	extra := func(commits string) {
		u.rx.Write("/etc/cis490/receiver.toml", strings.Replace(right, "# extra_commits = []", "extra_commits = ["+commits+"]", 1), 0o644)
	}
	old := fmt.Sprintf("%q", commitOf("v0"))
	extra(old)
	h.Run("/root/v0 install lab-host")
	u.rx.Eventually(time.Minute, "an episode of v0", u.state("index.jsonl")+" | grep '"+commitOf("v0")+"'")
	h.Run("systemctl stop cis490-orchestrator")
	waitDrained(h, time.Minute)
	h.Run("systemctl stop cis490-shipper")
	addEpisodes(h, waiting, 1)

	// The receiver is updated, and its config no longer accepts v0.
	u.publish("v2", lab.BinaryWith(t, "v2", commitOf("v2")))
	u.waitVersion(u.rx, "v2", 2*time.Minute)
	extra("")
	u.rx.Eventually(time.Minute, "v0 is refused", "curl -fsk https://localhost:8443/v1/gate/"+commitOf("v0")+" | grep '\"accepted\":false'")
	began := time.Now()
	h.Run("systemctl start cis490-shipper")
	h.Eventually(time.Minute, "all are held", fmt.Sprintf("test $(cis490 status --json | jq '.. | .held? // empty' | sort -n | "+
		"tail -1) -eq %d", waiting))
	refusals := func() string {
		return u.rx.Run("journalctl -u cis490-receiver | grep -c 'method=PUT.*status=412' || true")
	}
	a := u.waitAlert(2*time.Minute, "lab-01", "fatal-only", "gated")
	detected := time.Since(began)
	t.Logf("%s; %s", a.Reason, a.Fix)
	if !strings.Contains(a.Reason, commitOf("v0")[:12]) || !strings.Contains(a.Fix, "lab-01") {
		t.Errorf("the alert does not name the commit and the host: %+v", a)
	}
	time.Sleep(time.Until(began.Add(time.Minute))) // in the incident: sixty more PUTs
	if n := refusals(); n != "1" {
		t.Errorf("%s PUTs of one commit were refused under one policy, want 1", n)
	}
	extra(`"` + strings.Repeat("c", 40) + `"`) // another list, without v0
	u.rx.Eventually(time.Minute, "the host sends one more", "test $(journalctl -u cis490-receiver | grep -c 'method=PUT.*status=412') -eq 2")
	time.Sleep(10 * time.Second)
	if n := refusals(); n != "2" {
		t.Errorf("%s PUTs were refused under two policies, want 2", n)
	}

	u.rx.Run("cis490 release promote --seq 2 --force")
	due := time.Now()
	setTimer(h, "cis490-autoupdate", 8*time.Second)
	u.waitVersion(h, "v2", 3*time.Minute)
	u.rx.Eventually(time.Minute, "an episode of v2", u.state("index.jsonl")+" | grep '\"lab-01\".*"+commitOf("v2")+"'")
	u.waitResolved(time.Minute, "lab-01", "fatal-only")
	healed := time.Since(due)
	if n := refusals(); n != "2" {
		t.Errorf("%s PUTs were refused after the update, want the 2 before it", n)
	}
	extra(old)
	stopAutoupdate(h)
	h.Run("systemctl stop cis490-orchestrator")
	t.Logf("all %d held episodes were shipped %s after the gate accepted them", waiting, waitDrained(h, 8*time.Minute))
	u.checkReconciled(h)
	u.checkEachStoredOnce()
	if r := u.rx.Try(fmt.Sprintf("test $(%s | grep -c %s) -ge %d", u.state("index.jsonl"), commitOf("v0"), waiting)); r.Code != 0 {
		t.Errorf("not all held episodes are stored: %s", r)
	}
	reportTimes(t, detected, healed)
}
