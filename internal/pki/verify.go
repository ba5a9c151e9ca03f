package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"cis490/internal/ident"
)

// What VerifyClient finds wrong. ErrValidity comes with the host, whose chain is
// otherwise valid, so it may explain the host's silence; the other is a claim.
var (
	ErrNoCert   = errors.New("no client certificate was sent")
	ErrChain    = errors.New("client certificate is not from this fleet's CA")
	ErrValidity = errors.New("client certificate is outside its validity")
)

// VerifyClient checks a presented chain (leaf first) against the roots and
// returns the host it was issued to. The time is checked last: on ErrValidity
// the host is returned too. Revocation is the caller's to check.
func VerifyClient(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) (ident.Host, error) {
	if len(chain) == 0 {
		return "", ErrNoCert
	}
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// First at a time when the leaf was valid: is it ours at all?
	middle := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: middle,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrChain, err)
	}
	h, err := ident.ParseHost(leaf.Subject.CommonName)
	if err != nil || leaf.IsCA {
		return "", fmt.Errorf("%w: its name is not a host's", ErrChain)
	}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return h, fmt.Errorf("%w (%s to %s)", ErrValidity, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	return h, nil
}
