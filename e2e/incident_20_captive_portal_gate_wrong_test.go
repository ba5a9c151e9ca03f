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

// waiting is how many episodes wait in this story: none may be lost of them.
const waiting = 5000

// wrongFor is how long the gate is wrong; the host pings sixty times in it.
const wrongFor = 5 * time.Minute

// faces are what a captive portal answers every request with, as Caddy does it. Most
// have no certificate for the receiver's name. One that has, such as a broken load
// balancer, could be taken for the receiver.
var faces = []struct{ name, site, answer string }{
	{"a page in plain HTTP", "http://:8443", `respond "<html>Welcome! Please log in.</html>" 200`},
	{"a page", withCertificate, `respond "<html>Welcome! Please log in.</html>" 200`},
	{"a redirect", withCertificate, `redir https://portal.lab/login 302`},
	{"a page that is not found", withCertificate, `respond "<html>404</html>" 404`},
	{"a page that is forbidden", withCertificate, `respond "<html>Go away</html>" 403`},
}

const withCertificate = "https://collector.lab:8443"

// TestIncident20_CaptivePortalAndGateWrong: 5,000 episodes wait while a captive
// portal answers in the receiver's stead. When the receiver itself is heard again,
// its config blocks the fleet's commit; the host asks once, not for each episode.
// When that is put right all of them go out; none expired, none was set aside.
func TestIncident20_CaptivePortalAndGateWrong(t *testing.T) {
	t.Parallel()
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not installed here")
	}
	f := newFleet(t, "lab-01")
	h, portal := f.hosts[0], f.Boot("portal")
	quiet(h)
	h.Run("systemctl stop cis490-shipper")
	commit := supply(h, waiting, 1)

	portal.Push(caddy, "/usr/local/bin/caddy")
	portal.Write("/root/server.pem", f.rx.Read("/var/lib/cis490-authority/server.pem"), 0o600)
	f.lead(portal)
	began := time.Now()
	var detected time.Duration
	for _, face := range faces {
		tls, said := "", "does not look like a TLS handshake"
		if face.site == withCertificate {
			tls, said = "tls /root/server.pem /root/server.pem", "the answer is not from a cis490 receiver"
		}
		portal.Write("/root/Caddyfile", fmt.Sprintf("{\n\tauto_https off\n\tadmin off\n}\n%s {\n\t%s\n\t%s\n}\n", face.site, tls, face.answer), 0o644)
		portal.Run("systemctl stop face; systemd-run --quiet --unit=face -E HOME=/root caddy run --config /root/Caddyfile")
		portal.Eventually(30*time.Second, "the portal listens", "ss -Htln | grep -q :8443")
		h.Run("systemctl restart cis490-shipper")
		h.Eventually(time.Minute, "the shipper takes "+face.name+" for the network's fault",
			"journalctl --no-pager -o cat _PID=$(systemctl show -p MainPID --value cis490-shipper) | grep 'ping not answered.*"+said+"'")
		if detected == 0 {
			detected = time.Since(began)
		}
		allWait(t, h, face.name)
	}

	right := f.rx.Read("/etc/cis490/receiver.toml")
	f.rx.Write("/etc/cis490/receiver.toml", strings.Replace(right, "[gate]", "[gate]\nblocked_commits = [\""+commit+"\"]", 1), 0o644)
	f.rx.Eventually(time.Minute, "the gate refuses the commit", "curl -fsk https://localhost:8443/v1/gate/"+commit+" | grep -q '\"accepted\":false'")
	f.lead(f.rx)
	h.Eventually(time.Minute, "all are held", fmt.Sprintf("test $(cis490 status --json | jq '.. | .held? // empty' | sort -n | tail -1) -eq %d", waiting))
	time.Sleep(wrongFor)
	if refused := f.rx.Run("journalctl -u cis490-receiver | grep -c 'status=412' || true"); refused != "1" {
		t.Errorf("%s PUTs were refused by one policy, want 1", refused)
	}
	allWait(t, h, "a gate that is wrong")

	f.rx.Write("/etc/cis490/receiver.toml", right, 0o644)
	measured(t, detected, emptied(h, 8*time.Minute))
	f.equal(h)
	f.nothingLostNothingTwice()
	if rows := f.accepted(h); rows < waiting {
		t.Errorf("%d episodes arrived, want %d", rows, waiting)
	}
}

// allWait: whatever answered the host, all that waited is still there to be sent.
func allWait(t *testing.T, h *lab.Host, met string) {
	t.Helper()
	if n := h.Run("(ls " + spool + "/episodes; ls " + spool + "/outbox | sed 's/[.].*//') | sort -u | wc -l"); n != fmt.Sprint(waiting) {
		t.Errorf("%s: %s of %d episodes wait", met, n, waiting)
	}
	if aside := h.Run("ls " + spool + "/quarantine"); aside != "" {
		t.Errorf("%s: set aside: %.200s", met, aside)
	}
}
