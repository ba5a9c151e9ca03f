//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// behindCaddy is the heading of the docs' section that this scenario runs.
const behindCaddy = "## Behind Caddy"

// TestProxy runs receiver and authority behind Caddy, with the blocks of the docs. No host
// has Caddy's root; the join token pins it. Hosts enroll, ship and renew through the proxy,
// and clients without a certificate of the fleet are rejected.
func TestProxy(t *testing.T) {
	inLane(t)
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not installed here")
	}
	const url = "https://collector.lab:8443"
	const page = "../docs/operations.md"
	f := newSite(t, blockIn(t, page, behindCaddy, "toml"), "lab-01")
	h := f.hosts[0]
	f.rx.Push(caddy, "/usr/local/bin/caddy")
	f.rx.Write("/etc/caddy/Caddyfile", blockIn(t, page, behindCaddy, "caddyfile"), 0o644)
	f.rx.Run("cd /root && useradd --system caddy && groupadd --system cis490\n" +
		strings.ReplaceAll(blockIn(t, page, behindCaddy, "sh"), "sudo ", "") +
		"systemd-run --quiet --unit=caddy -p Restart=on-failure -p RestartSec=1 -p StartLimitIntervalSec=0 -p User=caddy -p " +
		"StateDirectory=caddy -E HOME=/var/lib/caddy caddy run --config /etc/caddy/Caddyfile")
	root := "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"
	// Caddy can start only when the authority, which needs Caddy's root, has created its CA.
	f.rx.Eventually(30*time.Second, "Caddy's own root", "install -m 644 "+root+" /etc/cis490/proxy-root.crt")
	f.rx.Run("cd /root && ./cis490 install receiver")
	f.rx.Eventually(30*time.Second, "all is ready behind the proxy", "curl -fsk "+url+"/readyz && curl -fsk "+url+"/v1/health")

	writeBusyConfig(h, time.Second, url)
	f.join(h)
	f.waitAccepted(h, 2, 30*time.Second)
	if r := h.Try("cis490 cert-fetch --renew"); r.Code != 0 {
		t.Errorf("renewal through the proxy: %s", r)
	}
	f.waitAccepted(h, f.accepted(h)+2, 30*time.Second)
	if n := h.Run("grep -c BEGIN /etc/cis490/certs/ca.crt"); n != "2" {
		t.Errorf("the host trusts %s roots, want the fleet's and the proxy's", n)
	}
	if n := f.rx.Run("grep -c BEGIN /var/lib/cis490-authority/trust.pem"); n != "1" {
		t.Errorf("serve accepts hosts of %s CAs, want the fleet's alone", n)
	}
	// Clients without a certificate, or with the header in its place, are rejected.
	der := h.Run(`awk '/BEGIN CERT/ {f=1; next} /END CERT/ {exit} f' /etc/cis490/certs/lab-host.pem | tr -d '\n'`)
	if len(der) < 200 {
		t.Fatalf("no certificate to steal: %q", der)
	}
	for what, header := range map[string]string{"no certificate": "", "a certificate in the header": "-H 'X-Client-Cert: " + der + "'"} {
		code := h.Run("curl -s -o /dev/null -w '%{http_code}' --cacert /etc/cis490/certs/ca.crt " + header +
			" -H \"Authorization: Bearer $(cat /etc/cis490/certs/bearer)\" -H 'Content-Type: application/json' -d '{\"episodes\":[]}' " + url +
			"/v1/reconcile")
		if code != "401" {
			t.Errorf("%s: status %s, want 401", what, code)
		}
	}
	for _, m := range append(f.hosts, f.rx) {
		if r := m.Try("cis490 doctor"); r.Code != 0 {
			t.Errorf("%s: doctor: %s", m.Name, r)
		}
	}
	if c := f.rx.Read("/var/lib/cis490/contacts.json"); !strings.Contains(c, `"from":"`+h.Addr+`"`) {
		t.Errorf("contacts do not have the host's address: %s", c)
	}
}
