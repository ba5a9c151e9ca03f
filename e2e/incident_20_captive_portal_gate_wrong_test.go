//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// waiting is the number of episodes that wait. None may be lost.
const waiting = 5000

// wrongFor is how long the gate is wrong: sixty pings of the host, one a second.
const wrongFor = time.Minute

// portalAnswers are a captive portal's answers to every request, as Caddy directives. Most
// portals have no certificate for the receiver's name. One that has, such as a broken load
// balancer, could be mistaken for the receiver.
var portalAnswers = []struct{ name, site, answer string }{
	{"a page in plain HTTP", "http://:8443", `respond "<html>Welcome! Please log in.</html>" 200`},
	{"a page", withCertificate, `respond "<html>Welcome! Please log in.</html>" 200`},
	{"a redirect", withCertificate, `redir https://portal.lab/login 302`},
	{"a page that is not found", withCertificate, `respond "<html>404</html>" 404`},
	{"a page that is forbidden", withCertificate, `respond "<html>Go away</html>" 403`},
}

const withCertificate = "https://collector.lab:8443"

// TestIncident20_CaptivePortalAndGateWrong: 5,000 episodes wait while a captive portal
// answers in place of the receiver. When the receiver is reachable again, its config blocks
// the fleet's commit; the host sends one episode, not each. After a correction of the
// config all are shipped: none has expired, none is quarantined.
func TestIncident20_CaptivePortalAndGateWrong(t *testing.T) {
	inLane(t)
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not installed here")
	}
	f := newFleet(t, "lab-01")
	h, portal := f.hosts[0], f.Boot("portal")
	stopRecording(h)
	h.Run("systemctl stop cis490-shipper")
	editConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"ping_every": `"1s"`})
	commit := addEpisodes(h, waiting, 1)

	portal.Push(caddy, "/usr/local/bin/caddy")
	portal.Write("/root/server.pem", f.rx.Read("/var/lib/cis490-authority/server.pem"), 0o600)
	f.redirectName(portal)
	began := time.Now()
	var detected time.Duration
	for _, face := range portalAnswers {
		tls, want := "", "does not look like a TLS handshake"
		if face.site == withCertificate {
			tls, want = "tls /root/server.pem /root/server.pem", "the answer is not from a cis490 receiver"
		}
		portal.Write("/root/Caddyfile", fmt.Sprintf("{\n\tauto_https off\n\tadmin off\n}\n%s {\n\t%s\n\t%s\n}\n", face.site, tls,
			face.answer), 0o644)
		portal.Run("systemctl stop face; systemd-run --quiet --unit=face -E HOME=/root caddy run --config /root/Caddyfile")
		portal.Eventually(30*time.Second, "the portal listens", "ss -Htln | grep -q :8443")
		h.Run("systemctl restart cis490-shipper")
		h.Eventually(time.Minute, "the shipper treats "+face.name+" as a network fault",
			"journalctl --no-pager -o cat _PID=$(systemctl show -p MainPID --value cis490-shipper) | grep 'ping not answered.*"+want+"'")
		if detected == 0 {
			detected = time.Since(began)
		}
		checkAllWait(t, h, face.name)
	}

	right := f.rx.Read("/etc/cis490/receiver.toml")
	f.rx.Write("/etc/cis490/receiver.toml", strings.Replace(right, "[gate]", "[gate]\nblocked_commits = [\""+commit+"\"]", 1), 0o644)
	f.rx.Eventually(time.Minute, "the gate refuses the commit", "curl -fsk https://localhost:8443/v1/gate/"+commit+" | "+
		"grep -q '\"accepted\":false'")
	f.redirectName(f.rx)
	h.Eventually(time.Minute, "all are held", fmt.Sprintf("test $(cis490 status --json | jq '.. | .held? // empty' | sort -n | "+
		"tail -1) -eq %d", waiting))
	time.Sleep(wrongFor)
	if refused := f.rx.Run("journalctl -u cis490-receiver | grep -c 'status=412' || true"); refused != "1" {
		t.Errorf("%s PUTs were refused under one policy, want 1", refused)
	}
	checkAllWait(t, h, "a gate that is wrong")

	f.rx.Write("/etc/cis490/receiver.toml", right, 0o644)
	reportTimes(t, detected, waitDrained(h, 8*time.Minute))
	f.checkReconciled(h)
	f.checkEachStoredOnce()
	if rows := f.accepted(h); rows < waiting {
		t.Errorf("%d episodes arrived, want %d", rows, waiting)
	}
}

// checkAllWait checks that all episodes still wait on the host, whatever answered it.
func checkAllWait(t *testing.T, h *lab.Host, met string) {
	t.Helper()
	if n := h.Run("(ls " + spool + "/episodes; ls " + spool + "/outbox | sed 's/[.].*//') | sort -u | wc -l"); n != fmt.Sprint(waiting) {
		t.Errorf("%s: %s of %d episodes wait", met, n, waiting)
	}
	if aside := h.Run("ls " + spool + "/quarantine"); aside != "" {
		t.Errorf("%s: quarantined: %.200s", met, aside)
	}
}
