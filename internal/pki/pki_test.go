package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
)

const host = ident.Host("lab-01")

func ca(t *testing.T, now time.Time) (pki.Issuer, *x509.CertPool) {
	t.Helper()
	i, err := pki.NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(i.Cert)
	return i, pool
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerifyClient(t *testing.T) {
	now := time.Now()
	i, roots := ca(t, now)
	other, _ := ca(t, now)
	issue := func(by pki.Issuer, h ident.Host, at time.Time) *x509.Certificate {
		c, err := by.Client(key(t).Public(), h, at, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	server, err := i.Server(key(t).Public(), []string{"lab-01"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		host  ident.Host
		err   error
	}{
		"good":            {[]*x509.Certificate{issue(i, host, now)}, host, nil},
		"none":            {nil, "", pki.ErrNoCert},
		"other CA":        {[]*x509.Certificate{issue(other, host, now)}, "", pki.ErrChain},
		"expired":         {[]*x509.Certificate{issue(i, host, now.Add(-2*time.Hour))}, host, pki.ErrValidity},
		"not yet valid":   {[]*x509.Certificate{issue(i, host, now.Add(8*24*time.Hour))}, host, pki.ErrValidity},
		"a server's":      {[]*x509.Certificate{server}, "", pki.ErrChain},
		"the CA itself":   {[]*x509.Certificate{i.Cert}, "", pki.ErrChain},
		"no host as name": {[]*x509.Certificate{issue(i, "Not A Host", now)}, "", pki.ErrChain},
	} {
		h, err := pki.VerifyClient(c.chain, roots, now)
		if h != c.host || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v", name, h, err)
		}
	}
}

func TestParseCSR_RefusesWhatPolicyDoesNotAllow(t *testing.T) {
	make := func(r x509.CertificateRequest, k any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &r, k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	good, err := pki.NewCSR(key(t), host)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.ParseCSR(good, host); err != nil {
		t.Errorf("our own request is refused: %v", err)
	}
	block, _ := pem.Decode(good)
	forged := append([]byte(nil), block.Bytes...)
	forged[len(forged)-1] ^= 1
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cn := pkix.Name{CommonName: string(host)}
	ca := pkix.Extension{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}
	for name, b := range map[string][]byte{
		"empty":         nil,
		"two":           append(append([]byte(nil), good...), good...),
		"other host":    make(x509.CertificateRequest{Subject: pkix.Name{CommonName: "lab-02"}}, key(t)),
		"more subject":  make(x509.CertificateRequest{Subject: pkix.Name{CommonName: string(host), Organization: []string{"x"}}}, key(t)),
		"other SAN":     make(x509.CertificateRequest{Subject: cn, DNSNames: []string{"collector.lab"}}, key(t)),
		"address SAN":   make(x509.CertificateRequest{Subject: cn, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, key(t)),
		"CA bit":        make(x509.CertificateRequest{Subject: cn, ExtraExtensions: []pkix.Extension{ca}}, key(t)),
		"weak key":      make(x509.CertificateRequest{Subject: cn}, weak),
		"other curve":   make(x509.CertificateRequest{Subject: cn}, p384),
		"bad signature": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged}),
	} {
		if _, err := pki.ParseCSR(b, host); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// An unknown client chooses the key, and with it the cost of a signature check: a large RSA
// key takes seconds.
func TestParseCSR_NoSignatureByAWrongKeyIsChecked(t *testing.T) {
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(host)}}, k)
	if err != nil {
		t.Fatal(err)
	}
	der[len(der)-1] ^= 1
	_, err = pki.ParseCSR(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), host)
	if err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Errorf("a bad signature by an RSA key: %v, want the key to be refused", err)
	}
}

func TestPair_FollowsASwap(t *testing.T) {
	now := time.Now()
	i, _ := ca(t, now)
	path := filepath.Join(t.TempDir(), "pair.pem")
	put := func() string {
		k := key(t)
		c, err := i.Client(k.Public(), host, now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		kb, err := pki.EncodeKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", append(pki.EncodeCerts(c, i.Cert), kb...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return pki.Serial(c)
	}
	pair := pki.NewPair(disk.OS{}, path)
	if _, err := pair.Get(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	for range 3 {
		want := put()
		got, err := pair.Get()
		if err != nil || pki.Serial(got.Leaf) != want {
			t.Errorf("got another pair (%v)", err)
		}
	}
	if err := os.WriteFile(path, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Get(); err == nil {
		t.Error("a broken file was accepted")
	}
}
