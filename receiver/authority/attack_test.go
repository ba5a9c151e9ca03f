package authority_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/local"
)

// request returns a certificate request for lab-01, modified by change.
func request(t testing.TB, key crypto.Signer, change func(*x509.CertificateRequest)) []byte {
	t.Helper()
	r := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lab-01"}, DNSNames: []string{"lab-01"}}
	if change != nil {
		change(r)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func must[K crypto.Signer](t testing.TB) func(K, error) K {
	return func(k K, err error) K {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
}

func extension(t testing.TB, id []int, value any) func(*x509.CertificateRequest) {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *x509.CertificateRequest) {
		r.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: der}}
	}
}

// forge modifies the last byte of a request's signature.
func forge(csr []byte) []byte {
	block, _ := pem.Decode(csr)
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}

// transplant replaces the key of a signed request.
func transplant(t testing.TB, csr []byte, key *ecdsa.PublicKey, old *ecdsa.PublicKey) []byte {
	t.Helper()
	mine, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := old.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(csr)
	changed := strings.Replace(string(block.Bytes), string(theirs), string(mine), 1)
	if changed == string(block.Bytes) {
		t.Fatal("the request does not contain its key")
	}
	block.Bytes = []byte(changed)
	return pem.EncodeToMemory(block)
}

// TestAttack_Requests sends requests for more than policy allows, with a valid token and
// with a valid key. Each is rejected and logged, binds no token, and issues nothing.
func TestAttack_Requests(t *testing.T) {
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	good := request(t, key, nil)
	attacks := map[string][]byte{
		"another name":        request(t, key, func(r *x509.CertificateRequest) { r.Subject.CommonName = "lab-02" }),
		"the receiver's name": request(t, key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"rx.lab"} }),
		"one more DNS name":   request(t, key, func(r *x509.CertificateRequest) { r.DNSNames = append(r.DNSNames, "rx.lab") }),
		"an address":          request(t, key, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }),
		"a URI":               request(t, key, func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "rx"}} }),
		"an e-mail address":   request(t, key, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"root@rx"} }),
		"an organisation":     request(t, key, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"operators"} }),
		"two common names": request(t, key, func(r *x509.CertificateRequest) {
			r.Subject.ExtraNames = []pkix.AttributeTypeAndValue{
				{Type: []int{2, 5, 4, 3}, Value: "lab-02"}, {Type: []int{2, 5, 4, 3}, Value: "lab-01"},
			}
		}),
		"the CA bit":             request(t, key, extension(t, []int{2, 5, 29, 19}, struct{ CA bool }{true})),
		"the right to sign":      request(t, key, extension(t, []int{2, 5, 29, 15}, asn1.BitString{Bytes: []byte{0x04}, BitLength: 6})),
		"use as a server":        request(t, key, extension(t, []int{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}})),
		"an RSA key":             request(t, must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)), nil),
		"a weak key":             request(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), nil),
		"another curve":          request(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), nil),
		"a wrong signature":      forge(good),
		"another's key":          transplant(t, good, &other.PublicKey, &key.PublicKey),
		"two requests":           append(append([]byte{}, good...), good...),
		"a certificate in place": []byte(strings.ReplaceAll(string(good), "CERTIFICATE REQUEST", "CERTIFICATE")),
		"bytes other than ASN.1": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("no request")}),
	}
	for _, how := range []string{"token", "renewal"} {
		t.Run(how, func(t *testing.T) {
			s := newHarness(t)
			tok := s.token("lab-01")
			secret := tok.Secret
			if how == "renewal" {
				if _, err := s.post("lab-01", wire.CertRequest{CSR: string(good), Token: secret}); err != nil {
					t.Fatal(err)
				}
				secret = ""
			}
			issued, events, tokens := lines(t, s.path(authority.IssuedFile)), lines(t, s.path(local.RosterFile)), lines(t,
				s.path(authority.TokensFile))
			logged := strings.Count(s.log.String(), "rejected certificate request")
			for name, csr := range attacks {
				a, err := s.post("lab-01", wire.CertRequest{CSR: string(csr), Token: secret})
				if err == nil {
					t.Errorf("%s: issued\n%s", name, a.Certificate)
					continue
				}
				wantKind(t, err, wire.BadCSR)
			}
			if n := lines(t, s.path(authority.IssuedFile)); n != issued {
				t.Errorf("%d certificates were issued", n-issued)
			}
			if lines(t, s.path(local.RosterFile)) != events || lines(t, s.path(authority.TokensFile)) != tokens {
				t.Error("refused requests left rows: a token was bound, or the roster changed")
			}
			if n := strings.Count(s.log.String(), "rejected certificate request") - logged; n != len(attacks) {
				t.Errorf("%d of %d attacks were logged", n, len(attacks))
			}
			if _, err := s.post("lab-01", wire.CertRequest{CSR: string(good), Token: secret}); err != nil {
				t.Errorf("the rightful host afterwards: %v", err)
			}
		})
	}
}

// A replayed request is answered, because a lost answer must cost nothing. Without the key
// the new certificate is useless, and the host keeps its access.
func TestAttack_ReplayedRequestIsUselessWithoutTheKey(t *testing.T) {
	s := newHarness(t)
	csr := s.csr("lab-01")
	tok := s.token("lab-01")
	rightful, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret})
	if err != nil {
		t.Fatal(err)
	}
	replayed, err := s.post("lab-01", wire.CertRequest{CSR: csr}) // who overheard it has no token
	if err != nil {
		t.Fatal(err)
	}
	if replayed.Bearer != "" {
		t.Error("a replayed request was answered with a bearer")
	}
	thief, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	private, err := pki.EncodeKey(thief)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.ParsePair(append([]byte(replayed.Certificate), private...)); err == nil {
		t.Error("the certificate of a replayed request works with another key")
	}
	h := s.host("lab-01")
	if !h.Valid(serial(t, rightful)) || h.Bearer != digestOf(rightful.Bearer) {
		t.Error("a replayed request revoked the host's access")
	}
}

// TestAttack_IdentityOfAnother: a token or key of one host is rejected for another name,
// and a decommissioned host cannot enroll again.
func TestAttack_IdentityOfAnother(t *testing.T) {
	s := newHarness(t)
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []ident.Host{"lab-01", "lab-02"} {
		mine := s.csr(h)
		if h == "lab-01" {
			mine = string(request(t, key, nil))
		}
		if _, err := s.post(h, wire.CertRequest{CSR: mine, Token: s.token(h).Secret}); err != nil {
			t.Fatal(err)
		}
	}
	stolen, err := pki.NewCSR(key, "lab-02") // lab-01's key asks to be lab-02
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.post("lab-02", wire.CertRequest{CSR: string(stolen)})
	wantKind(t, err, wire.NotThisKey)

	if err := s.ask.Decommission(t.Context(), "lab-01"); err != nil {
		t.Fatal(err)
	}
	own := string(request(t, key, nil))
	_, err = s.post("lab-01", wire.CertRequest{CSR: own})
	wantKind(t, err, wire.Decommission)
	s.stop()
	s.start() // and that is remembered
	_, err = s.post("lab-01", wire.CertRequest{CSR: own})
	wantKind(t, err, wire.Decommission)
	if n := strings.Count(s.log.String(), "rejected certificate request"); n != 3 {
		t.Errorf("%d of 3 attacks were logged", n)
	}
}

// TestPolicy_WhatIsIssued: for any request, the certificate is for client authentication of
// the host only, and issued.jsonl records the client.
func TestPolicy_WhatIsIssued(t *testing.T) {
	s := newHarness(t)
	csr := s.csr("lab-01")
	a, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: s.token("lab-01").Secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.post("lab-01", wire.CertRequest{CSR: csr}); err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseCerts([]byte(a.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	c, now := chain[0], s.clock.now()
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("want client authentication only: CA %v, usage %v %v", c.IsCA, c.KeyUsage, c.ExtKeyUsage)
	}
	if c.Subject.String() != "CN=lab-01" || len(c.DNSNames) != 1 || c.DNSNames[0] != "lab-01" ||
		len(c.IPAddresses)+len(c.URIs)+len(c.EmailAddresses) > 0 {
		t.Errorf("it names more than the host: %s %v", c.Subject, c.DNSNames)
	}
	back, life := now.Sub(c.NotBefore).Round(time.Minute), c.NotAfter.Sub(now).Round(time.Minute)
	if back != 7*24*time.Hour || life != 30*24*time.Hour {
		t.Errorf("it begins %s ago and is valid for %s", back, life)
	}
	rows, err := os.ReadFile(s.path(authority.IssuedFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"from":"127.0.0.1"`, `"how":"token"`, `"how":"renewal"`, `"serial":"` + pki.Serial(c) + `"`} {
		if !strings.Contains(string(rows), want) {
			t.Errorf("issued.jsonl lacks %s:\n%s", want, rows)
		}
	}
}
