package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
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

// What a client may present: hosts send their certificate alone, and one beneath a
// CA of the site's own a few more. The sender chooses the keys, and with their number
// and kind what the chain costs to verify.
const (
	maxChain = 4
	maxDER   = 8 << 10 // bytes of one certificate
	maxRSA   = 4096    // bits
)

var errLong = fmt.Errorf("more than %d certificates were sent", maxChain)

// VerifyClient checks a presented chain (leaf first) against the roots and
// returns the host it was issued to. The time is checked last: on ErrValidity
// the host is returned too. Revocation is the caller's to check.
func VerifyClient(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) (ident.Host, error) {
	h, err := VerifyChain(chain, roots)
	if err != nil {
		return "", err
	}
	return h, CheckValidity(chain[0], now)
}

// CheckValidity returns ErrValidity if a certificate is not valid at a time.
func CheckValidity(c *x509.Certificate, now time.Time) error {
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("%w (%s to %s)", ErrValidity, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// VerifyChain is VerifyClient without the time: its result for a chain and roots
// never changes.
func VerifyChain(chain []*x509.Certificate, roots *x509.CertPool) (ident.Host, error) {
	if len(chain) == 0 {
		return "", ErrNoCert
	}
	if err := cheap(chain); err != nil {
		return "", fmt.Errorf("%w: %w", ErrChain, err)
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
	return h, nil
}

// cheap refuses a chain that costs more to verify than one of a host's.
func cheap(chain []*x509.Certificate) error {
	if len(chain) > maxChain {
		return errLong
	}
	for _, c := range chain {
		if len(c.Raw) > maxDER {
			return fmt.Errorf("a certificate of %d bytes is over the limit of %d", len(c.Raw), maxDER)
		}
		switch k := c.PublicKey.(type) {
		case ed25519.PublicKey:
		case *ecdsa.PublicKey:
			if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
				return fmt.Errorf("a key on curve %s is not taken", k.Curve.Params().Name)
			}
		case *rsa.PublicKey:
			if k.N.BitLen() > maxRSA {
				return fmt.Errorf("an RSA key of %d bits is over the limit of %d", k.N.BitLen(), maxRSA)
			}
		default:
			return errors.New("a key of this kind is not taken")
		}
	}
	return nil
}
