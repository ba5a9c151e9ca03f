//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident03_EmptyList: the receiver and its source of accepted commits restarted
// together, and the receiver refused every host by an empty list. Now it answers 503 until
// it has read the list: hosts wait, no episode is refused or quarantined, and shipping
// resumes by itself.
func TestIncident03_EmptyList(t *testing.T) {
	inLane(t)
	u := newUpdates(t, []string{"lab-01"})
	h := u.hosts[0]
	// The receiver is a release ahead, so only the list accepts the host's commit.
	stopAutoupdate(h)
	u.publish("v2", lab.BinaryWith(t, "v2", commitOf("v2")))
	u.waitVersion(u.rx, "v2", 2*time.Minute)
	u.watchFleet()
	delayAutoupdate(u.rx)
	h.Run("systemctl stop cis490-orchestrator")
	waitDrained(h, time.Minute)
	h.Run("systemctl disable cis490-orchestrator") // only this scenario adds episodes
	delayAutoupdate(h)
	before := u.rx.Run("cis490 release list --json")

	// Both machines lose power, and the receiver cannot read its list at first.
	u.rx.Run("chmod 0 /var/lib/cis490/releases")
	u.rx.Crash()
	h.Crash()
	u.rx.Start()
	down := time.Now()
	h.Start()
	addEpisodes(h, 50, 10)
	u.rx.Eventually(time.Minute, "the gate has no verdict", "test $(curl -sko /dev/null -w '%{http_code}' "+
		"https://localhost:8443/v1/gate/"+commitOf("v1")+") = 503")
	ready := u.rx.Eventually(time.Minute, "readyz reports the missing list", "curl -sk https://localhost:8443/readyz | grep 'gate'")
	detected := time.Since(down)
	t.Logf("readyz: %s", ready)
	if !strings.Contains(ready, "/var/lib/cis490/releases") {
		t.Errorf("readyz does not name the unreadable folder: %s", ready)
	}
	if code := putStatus(h, commitOf("v1")); code != "503" {
		t.Errorf("a PUT without a list is answered %s, want 503", code)
	}
	h.Eventually(time.Minute, "the host knows why", "journalctl -b -u cis490-shipper | grep 'ping not answered.*receiver is not ready'")
	time.Sleep(20 * time.Second) // more of its tries
	if n := strings.TrimSpace(h.Run("ls " + spool + "/episodes | wc -l")); n != "50" {
		t.Errorf("%s episodes wait, want all 50", n)
	}

	u.rx.Run("chmod 755 /var/lib/cis490/releases")
	healed := waitDrained(h, 3*time.Minute)
	for _, what := range []string{
		"journalctl -b -u cis490-receiver --no-pager | grep 'method=PUT.* status=4'",
		u.state("rejections.jsonl") + " | grep '\"status\":4'",
	} {
		if r := u.rx.Try(what); r.Out != "" {
			t.Errorf("a valid episode was refused: %s", r.Out)
		}
	}
	u.checkReconciled(h)
	u.checkEachStoredOnce()
	if after := u.rx.Run("cis490 release list --json"); after != before {
		t.Errorf("the rollout was\n%s\nand is\n%s", before, after)
	}
	reportTimes(t, detected, healed)
}

// putStatus sends a body as an episode of a commit, with the host's credentials, and
// returns the status code.
func putStatus(h *lab.Host, commit string) string {
	return h.Run(`printf x >/root/x && id=01J00000000000000000000009 && curl -sS -o /dev/null -w '%{http_code}' \
--cacert /etc/cis490/certs/ca.crt --cert /etc/cis490/certs/lab-host.pem -H "Authorization: Bearer $(cat /etc/cis490/certs/bearer)" \
-H 'Content-Type: application/zstd' -H "X-Content-SHA256: $(sha256sum </root/x | cut -d' ' -f1)" -H 'X-Schema-Version: 1' \
-H 'X-Lab-Host: ` + h.Name + `' -H "X-Episode-Id: $id" -H 'X-Cis490-Code-Commit: ` + commit + `' \
-T /root/x https://collector.lab:8443/v1/episodes/` + h.Name + `/$id.tar.zst`)
}
