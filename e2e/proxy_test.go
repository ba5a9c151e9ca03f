//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// caddyfile puts Caddy, with a CA of its own, before receiver and authority: it
// requests client certificates, verifies none, and passes what it got.
const caddyfile = `{
	admin off
	skip_install_trust
	auto_https disable_redirects
}
https://collector.lab:8443 {
	tls internal {
		client_auth {
			mode request
		}
	}
	@authority path /v1/ca /v1/health /v1/cert/*
	handle @authority {
		reverse_proxy https://127.0.0.1:8444 {
			transport http {
				tls_trusted_ca_certs /var/lib/cis490-authority/ca.crt
				tls_server_name collector.lab
			}
		}
	}
	handle {
		reverse_proxy unix//run/cis490-receiver/http.sock {
			header_up X-Client-Cert {http.request.tls.client.certificate_der_base64}
		}
	}
}
`

// TestProxy: receiver and authority behind Caddy, whose root no host has ever
// seen. The join token pins that root; hosts enrol, ship and renew through the
// proxy, and who shows no certificate of the fleet is turned away.
func TestProxy(t *testing.T) {
	t.Parallel()
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not installed here")
	}
	const url = "https://collector.lab:8443"
	f := site(t, "[tls]\nmode = \"proxy\"\nroot = \"/etc/cis490/proxy-root.crt\"\n[authority]\nurl = \""+url+"\"\n", "lab-01")
	h := f.hosts[0]
	f.rx.Push(caddy, "/usr/local/bin/caddy")
	f.rx.Write("/etc/caddy/Caddyfile", caddyfile, 0o644)
	f.rx.Run("cd /root && groupadd --system cis490 && systemd-run --quiet --unit=caddy -p Restart=on-failure -p RestartSec=1 -p StartLimitIntervalSec=0 -p DynamicUser=yes -p Group=cis490 -p StateDirectory=caddy -E HOME=/var/lib/caddy caddy run --config /etc/caddy/Caddyfile")
	root := "/var/lib/private/caddy/.local/share/caddy/pki/authorities/local/root.crt"
	// Caddy comes up when the authority, which needs its root, has made its CA.
	f.rx.Eventually(30*time.Second, "Caddy's own root", "install -m 644 "+root+" /etc/cis490/proxy-root.crt")
	f.rx.Run("cd /root && ./cis490 install receiver")
	f.rx.Eventually(30*time.Second, "all is ready behind the proxy", "curl -fsk "+url+"/readyz && curl -fsk "+url+"/v1/health")

	busy(h, time.Second, url)
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
		t.Errorf("serve takes hosts of %s CAs, want the fleet's alone", n)
	}
	// Without a certificate, and with the header in its place, nobody gets in.
	der := h.Run(`awk '/BEGIN CERT/ {f=1; next} /END CERT/ {exit} f' /etc/cis490/certs/lab-host.pem | tr -d '\n'`)
	if len(der) < 200 {
		t.Fatalf("no certificate to steal: %q", der)
	}
	for what, header := range map[string]string{"no certificate": "", "a certificate in the header": "-H 'X-Client-Cert: " + der + "'"} {
		code := h.Run("curl -s -o /dev/null -w '%{http_code}' --cacert /etc/cis490/certs/ca.crt " + header +
			" -H \"Authorization: Bearer $(cat /etc/cis490/certs/bearer)\" -H 'Content-Type: application/json' -d '{\"episodes\":[]}' " + url + "/v1/reconcile")
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
		t.Errorf("contacts do not say where the host is: %s", c)
	}
}
