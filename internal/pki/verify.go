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
	"cis490/internal/plain"
)

// The errors of VerifyClient. With ErrValidity the host is verified, so the error may
// explain its silence; with the others the name is only claimed.
var (
	ErrNoCert   = errors.New("no client certificate was sent")
	ErrChain    = errors.New("client certificate is not from this fleet's CA")
	ErrValidity = errors.New("client certificate is outside its validity")
)

// Limits on a client's chain: a host sends one certificate, and a site's own CA may have
// intermediates. The sender chooses the number and kind of keys, and so the cost of
// verification.
const (
	maxChain = 4
	maxDER   = 8 << 10 // bytes of one certificate
	maxRSA   = 4096    // bits
)

var errLong = fmt.Errorf("more than %d certificates were sent", maxChain)

// VerifyClient verifies a chain (leaf first) against the roots and returns the host it was
// issued to. It checks the time last: with ErrValidity it returns the host too. The caller
// checks revocation.
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
		return fmt.Errorf("%w (%s to %s)", ErrValidity, plain.Time(c.NotBefore), plain.Time(c.NotAfter))
	}
	return nil
}

// VerifyChain is VerifyClient without the time, so its result for a chain and roots never
// changes.
func VerifyChain(chain []*x509.Certificate, roots *x509.CertPool) (ident.Host, error) {
	if len(chain) == 0 {
		return "", ErrNoCert
	}
	if err := cheap(chain); err != nil {
		return "", fmt.Errorf("%w: %w", ErrChain, err)
	}
	if err := verify(chain, roots, x509.ExtKeyUsageClientAuth, ""); err != nil {
		return "", fmt.Errorf("%w: %w", ErrChain, err)
	}
	leaf := chain[0]
	h, err := ident.ParseHost(leaf.Subject.CommonName)
	if err != nil || leaf.IsCA {
		return "", fmt.Errorf("%w: its name is not a host name", ErrChain)
	}
	return h, nil
}

// cheap rejects a chain that costs more to verify than a host's.
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
				return fmt.Errorf("keys on curve %s are not accepted", k.Curve.Params().Name)
			}
		case *rsa.PublicKey:
			if k.N.BitLen() > maxRSA {
				return fmt.Errorf("an RSA key of %d bits is over the limit of %d", k.N.BitLen(), maxRSA)
			}
		default:
			return errors.New("keys of this kind are not accepted")
		}
	}
	return nil
}

// VerifyServer verifies a server's chain (leaf first, not empty) for a name or address. Like
// VerifyClient it checks the time last.
func VerifyServer(chain []*x509.Certificate, roots *x509.CertPool, name string, now time.Time) error {
	if err := verify(chain, roots, x509.ExtKeyUsageServerAuth, name); err != nil {
		return fmt.Errorf("the server certificate is not from this fleet's CA, or not for %s: %w", name, err)
	}
	return CheckValidity(chain[0], now)
}

// verify verifies a chain without the time.
func verify(chain []*x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage, name string) error {
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// At a time when the leaf was valid, to find out whether the fleet's CA issued it.
	middle := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: middle, KeyUsages: []x509.ExtKeyUsage{use}, DNSName: name,
	})
	return err
}
