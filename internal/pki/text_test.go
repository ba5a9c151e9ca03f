package pki_test

import (
	"testing"
	"time"

	"cis490/internal/pki"
)

// TestParse_AsWindowsSavesIt: a byte order mark breaks neither the key nor the first
// certificate of a bundle.
func TestParse_AsWindowsSavesIt(t *testing.T) {
	issuer, _ := ca(t, time.Now())
	certs := "\ufeff" + string(pki.EncodeCerts(issuer.Cert, issuer.Cert))
	if got, err := pki.ParseCerts([]byte(certs)); err != nil || len(got) != 2 {
		t.Error(len(got), err)
	}
	b, err := pki.EncodeKey(key(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.ParseKey(append([]byte("\ufeff"), b...)); err != nil {
		t.Error(err)
	}
}
