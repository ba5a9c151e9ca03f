//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// impostor is the Caddyfile of a server that answers release requests from its folder.
const impostor = `{
	auto_https off
	admin off
}
https://collector.lab:8443 {
	tls /root/server.pem /root/server.pem
	root * /root/served
	rewrite /v1/releases /offer
	uri strip_prefix /v1/releases/blob
	file_server
}
`

// TestIncident16_FalseRelease: an attacker with the receiver's certificate serves an older
// release, releases with a changed manifest or binary, and one for another architecture.
// The host rejects each, logs the reason and keeps its version.
func TestIncident16_FalseRelease(t *testing.T) {
	inLane(t)
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not installed here")
	}
	u := newUpdates(t, []string{"lab-01"})
	stopAutoupdate(u.rx)
	h := u.hosts[0]
	old := u.waitOffer("v1")
	u.publish("v2", lab.BinaryWith(t, "v2", commitOf("v2")))
	u.rx.Run("cis490 release promote --force --seq 2")
	u.waitVersion(h, "v2", 2*time.Minute)
	stopAutoupdate(h) // from here on the scenario runs it
	u.publish("v3", lab.BinaryWith(t, "v3", commitOf("v3")))
	u.rx.Run("cis490 release promote --force --seq 3")
	right := u.waitOffer("v3")
	u.publish("v4", buildPatched(t, "v4", []string{"GOARCH=arm64"}))
	u.rx.Run("cis490 release promote --force --seq 4")
	other := u.waitOffer("v4")

	fake := u.Boot("impostor")
	fake.Push(caddy, "/usr/local/bin/caddy")
	fake.Write("/root/server.pem", u.rx.Read("/var/lib/cis490-authority/server.pem"), 0o600)
	fake.Write("/root/Caddyfile", impostor, 0o644)
	for blob := range strings.FieldsSeq(u.rx.Run("ls -t /var/lib/cis490/releases/blobs | head -2")) { // of v4 and v3
		fake.RunIn(u.rx.Run("gzip -1c /var/lib/cis490/releases/blobs/"+blob+" | base64 -w0"),
			"mkdir -p /root/served && base64 -d | gzip -d >/root/served/"+blob)
	}
	fake.Run("systemd-run --quiet --unit=impostor -E HOME=/root caddy run --config /root/Caddyfile")
	u.redirectName(fake)
	const state = `readlink /opt/cis490/current /opt/cis490/good; ls /opt/cis490/versions/*/cis490; ` +
		`sha256sum /opt/cis490/current/cis490 /etc/systemd/system/cis490-*.service; systemctl show -p MainPID cis490-shipper cis490-orchestrator`
	before := h.Run(state)
	began := time.Now()
	for _, c := range []struct{ what, offer, spoil, why string }{
		{"older", old, "", "has seq 1, but 2 was seen already"},
		{"of another manifest", strings.Replace(right, `\"v3\"`, `\"v33\"`, 1), "", "no trusted key signed this"},
		{"of another binary", right, "for f in *; do printf X | dd of=$f bs=1 seek=1000 conv=notrunc status=none; done", "could not be fetched"},
		{"for other machines", other, "", "does not run here"},
	} {
		fake.Run("rm -rf /root/blobs && cp -a /root/served /root/blobs && cd /root/served\n" + c.spoil)
		fake.Write("/root/served/offer", c.offer, 0o644)
		r := h.Try("cis490 autoupdate")
		out := r.Out + r.Err
		t.Logf("a release %s: %s", c.what, strings.TrimSpace(out))
		if !strings.Contains(out, c.why) {
			t.Errorf("a release %s: want …%s…, got %s", c.what, c.why, r)
		}
		if now := h.Run(state); now != before {
			t.Errorf("a release %s changed\n%s\nto\n%s", c.what, before, now)
		}
		fake.Run("rm -rf /root/served && mv /root/blobs /root/served")
	}
	reportTimes(t, time.Since(began)/4, 0)
}

// waitOffer waits until the receiver offers this version to lab-01, and returns the offer.
func (u *updates) waitOffer(version string) string {
	u.t.Helper()
	return u.rx.Eventually(time.Minute, version+" is offered", `curl -fsk `+
		`'https://collector.lab:8443/v1/releases?os=linux&arch=amd64&host=lab-01' | tee /tmp/offer | jq -se '.[0].manifest | fromjson | `+
		`.version == "`+version+`"' >/dev/null && cat /tmp/offer`)
}
