package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"cis490/internal/pki"
)

// A chain that is more expensive to verify than a host's is refused before any signature is
// checked.
func TestVerifyChain_Bounds(t *testing.T) {
	issuer, roots := ca(t, time.Now())
	signer := func(k crypto.Signer, err error) crypto.Signer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521 := signer(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	large := signer(rsa.GenerateKey(rand.Reader, 4104))
	for name, c := range map[string]struct {
		key    crypto.Signer
		copies int
		change func(*x509.Certificate)
		want   string
	}{
		"a host's":          {key(t), 1, nil, ""},
		"four":              {key(t), 4, nil, ""},
		"Ed25519":           {ed, 1, nil, ""},
		"five":              {key(t), 5, nil, "more than 4"},
		"121":               {p521, 121, nil, "more than 4"},
		"P-521":             {p521, 1, nil, "P-521"},
		"RSA of 4,104 bits": {large, 1, nil, "RSA key of 4104 bits"},
		"a long name":       {key(t), 1, func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("x", 9000)} }, "over the limit"},
	} {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: string(host)}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		if c.change != nil {
			c.change(tmpl)
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer.Cert, c.key.Public(), issuer.Key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		var chain []*x509.Certificate
		for range c.copies {
			chain = append(chain, leaf)
		}
		h, err := pki.VerifyChain(chain, roots)
		switch {
		case c.want == "" && (err != nil || h != host):
			t.Errorf("%s: %q, %v", name, h, err)
		case c.want != "" && (!errors.Is(err, pki.ErrChain) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
