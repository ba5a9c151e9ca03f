package pki_test

import (
	"crypto"
	"crypto/x509"
	"io"
	"testing"
	"time"

	"cis490/internal/pki"
)

// held is a key that can only sign, as one in hardware.
type held struct{ key crypto.Signer }

func (h held) Public() crypto.PublicKey { return h.key.Public() }

func (h held) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return h.key.Sign(random, digest, o)
}

// TestIssuer_NeedsASignerOnly: nothing that an authority issues needs the key itself.
func TestIssuer_NeedsASignerOnly(t *testing.T) {
	now := time.Now()
	i, roots := ca(t, now)
	i.Key = held{i.Key}
	next, _ := ca(t, now)
	if _, err := i.Cross(next.Cert, now, now.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if _, err := i.Client(key(t).Public(), host, now, time.Hour); err != nil {
		t.Error(err)
	}
	c, err := i.Server(key(t).Public(), []string{"rx.lab"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.VerifyServer([]*x509.Certificate{c}, roots, "rx.lab", now); err != nil {
		t.Error(err)
	}
	if err := pki.VerifyServer([]*x509.Certificate{c}, roots, "other.lab", now); err == nil {
		t.Error("the certificate is for another name, too")
	}
}
