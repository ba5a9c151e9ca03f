//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident03_EmptyList: the receiver and the place where it learned of accepted
// commits restarted together, and the empty list refused every host. Now an answer
// that needs a list is 503 until there is one: hosts wait, nothing is refused or set
// aside, and all goes on by itself.
func TestIncident03_EmptyList(t *testing.T) {
	t.Parallel()
	u := newUpdates(t, []string{"lab-01"})
	h := u.hosts[0]
	// The receiver is a release ahead: it is the list that lets the host in.
	hold(h)
	u.publish("v2", lab.BinaryWith(t, "v2", commitOf("v2")))
	u.on(u.rx, "v2", 2*time.Minute)
	u.watched()
	unmended(u.rx)
	h.Run("systemctl stop cis490-orchestrator")
	emptied(h, time.Minute)
	h.Run("systemctl disable cis490-orchestrator") // what waits is the scenario's
	unmended(h)
	before := u.rx.Run("cis490 release list --json")

	// Both machines lose power; what the receiver's list is made of comes up later.
	u.rx.Run("chmod 0 /var/lib/cis490/releases")
	u.rx.Crash()
	h.Crash()
	u.rx.Start()
	down := time.Now()
	h.Start()
	supply(h, 50, 10)
	u.rx.Eventually(time.Minute, "the gate has no verdict", "test $(curl -sko /dev/null -w '%{http_code}' https://localhost:8443/v1/gate/"+commitOf("v1")+") = 503")
	ready := u.rx.Eventually(time.Minute, "the receiver says what is missing", "curl -sk https://localhost:8443/readyz | grep 'gate'")
	detected := time.Since(down)
	t.Logf("readyz: %s", ready)
	if !strings.Contains(ready, "/var/lib/cis490/releases") {
		t.Errorf("it does not say which folder cannot be read: %s", ready)
	}
	if code := put(h, commitOf("v1")); code != "503" {
		t.Errorf("a PUT without a list is answered %s, want 503", code)
	}
	h.Eventually(time.Minute, "the host is asked to wait", "journalctl -b -u cis490-shipper | grep 503")
	time.Sleep(20 * time.Second) // more of its tries
	if n := strings.TrimSpace(h.Run("ls " + spool + "/episodes | wc -l")); n != "50" {
		t.Errorf("%s episodes wait, want all 50", n)
	}

	u.rx.Run("chmod 755 /var/lib/cis490/releases")
	healed := emptied(h, 3*time.Minute)
	for _, what := range []string{
		"journalctl -b -u cis490-receiver --no-pager | grep 'method=PUT.* status=4'",
		"grep '\"status\":4' /var/lib/cis490/rejections.jsonl",
	} {
		if r := u.rx.Try(what); r.Out != "" {
			t.Errorf("a valid episode was refused: %s", r.Out)
		}
	}
	u.equal(h)
	u.nothingLostNothingTwice()
	if after := u.rx.Run("cis490 release list --json"); after != before {
		t.Errorf("the rollout was\n%s\nand is\n%s", before, after)
	}
	measured(t, detected, healed)
}

// put sends something as an episode of a commit, with the host's own credentials, and
// returns the status of the answer.
func put(h *lab.Host, commit string) string {
	return h.Run(`printf x >/root/x && id=01J00000000000000000000009 && curl -sS -o /dev/null -w '%{http_code}' \
--cacert /etc/cis490/certs/ca.crt --cert /etc/cis490/certs/lab-host.pem -H "Authorization: Bearer $(cat /etc/cis490/certs/bearer)" \
-H 'Content-Type: application/zstd' -H "X-Content-SHA256: $(sha256sum </root/x | cut -d' ' -f1)" -H 'X-Schema-Version: 1' \
-H 'X-Lab-Host: ` + h.Name + `' -H "X-Episode-Id: $id" -H 'X-Cis490-Code-Commit: ` + commit + `' \
-T /root/x https://collector.lab:8443/v1/episodes/` + h.Name + `/$id.tar.zst`)
}
