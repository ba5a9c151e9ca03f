//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// TestRotateEverySecret runs the commands of docs/security.md, with a CA of the site. After
// each, a stolen copy of the secret is rejected, and both hosts keep shipping.
func TestRotateEverySecret(t *testing.T) {
	inLane(t)
	f := newSite(t, "", "lab-01", "lab-02")
	own, key := ownCA(t)
	f.rx.Write("/root/ca.crt", own, 0o644)
	f.rx.Write("/root/ca.key", key, 0o600)
	f.rx.Run("cd /root && ./cis490 install receiver --ca-cert ca.crt --ca-key ca.key && rm ca.key")
	if now := f.rx.Read("/var/lib/cis490-authority/ca.crt"); now != own {
		t.Errorf("the authority issues with another CA:\n%s", now)
	}
	h := f.hosts[0]
	for _, m := range f.hosts {
		writeBusyConfig(m, time.Second, authorityURL)
		f.join(m)
	}
	ship := func(after string) {
		t.Helper()
		for _, m := range f.hosts {
			f.waitAccepted(m, f.accepted(m)+2, 45*time.Second)
		}
		t.Logf("%s: all hosts ship", after)
	}
	ship("installed")

	// A host: its earlier credentials are rejected.
	h.Run("mkdir /root/stolen && cp -a /etc/cis490/certs /root/stolen/ && " +
		"sed 's,^host = .*,&\\ncerts_dir = \"/root/stolen/certs\",' /etc/cis490/lab-host.toml > /root/stolen/lab-host.toml")
	thief := "cis490 ship --ping --config /root/stolen/lab-host.toml"
	if r := h.Try(thief); r.Code != 0 {
		t.Fatalf("the thief's copy does not work before the rotation: %s", r)
	}
	f.join(h)
	if r := h.Try(thief); r.Code == 0 || !strings.Contains(r.Err, "revoked") {
		t.Errorf("credentials stolen before the new enrollment: %s", r)
	}
	ship("a host has a new key")

	// A join token.
	paste := f.rx.Run("cis490 token create lab-02")
	f.rx.Run("cis490 token revoke lab-02")
	token := between(paste, "c490.", " ")
	f.hosts[1].RunIn(token, "cat > /etc/cis490/certs/join-token && chown cis490: /etc/cis490/certs/join-token")
	if r := f.hosts[1].Try("cis490 cert-fetch"); r.Code == 0 || !strings.Contains(r.Err, "revoked") {
		t.Errorf("a revoked token: %s", r)
	}
	f.hosts[1].Run("rm /etc/cis490/certs/join-token")
	ship("a token was revoked")

	// Server certificates.
	serving := "sha256sum /var/lib/cis490-authority/server.pem /var/lib/cis490-authority/authority.pem"
	before := f.rx.Run(serving)
	f.rx.Run("rm /var/lib/cis490-authority/server.pem /var/lib/cis490-authority/authority.pem")
	f.rx.Eventually(90*time.Second, "new server certificates",
		"test -e /var/lib/cis490-authority/server.pem && test -e /var/lib/cis490-authority/authority.pem")
	if f.rx.Run(serving) == before {
		t.Error("the server certificates are the old ones")
	}
	ship("the servers have new keys")

	// The CA.
	f.rx.Run("cis490 ca rotate")
	for _, m := range f.hosts {
		m.Run("cis490 cert-fetch --renew") // in real operation: within three weeks
	}
	f.rx.Run("cis490 ca retire")
	if n := f.rx.Run("grep -c BEGIN /var/lib/cis490-authority/trust.pem"); n != "1" {
		t.Errorf("%s CAs are trusted after retiring the old one", n)
	}
	ship("the old CA is retired")

	// The operator token.
	old := f.rx.Read("/etc/cis490/operator")
	f.rx.Run("rm /etc/cis490/operator && cis490 install receiver")
	if f.rx.Read("/etc/cis490/operator") == old {
		t.Error("the operator token is the old one")
	}
	f.rx.RunIn(strings.TrimSpace(old), "cat > /root/old")
	for file, want := range map[string]string{"/root/old": "401", "/etc/cis490/operator": "200"} {
		f.rx.Eventually(60*time.Second, "status "+want+" for the token in "+file,
			`test $(curl -sk -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $(cat `+file+`)" https://collector.lab:8443/v1/fleet) = `+want)
	}
	ship("the operator token is new")
}

// ownCA creates a CA of the site, in PEM.
func ownCA(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the site's own CA"},
		NotBefore: time.Now().Add(-30 * 24 * time.Hour), NotAfter: time.Now().Add(5 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
}
