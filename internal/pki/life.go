package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"time"
)

// Life returns when a certificate was made, which is later than its NotBefore, and its life
// from then on.
func Life(c *x509.Certificate) (made time.Time, life time.Duration) {
	made = c.NotBefore.Add(backdate)
	if !made.Before(c.NotAfter) { // made by another CA
		made = c.NotBefore
	}
	return made, c.NotAfter.Sub(made)
}

// RenewAt returns when to renew a certificate: at two thirds of its life, plus up to a
// twentieth of it. The addition depends only on the name, so that hosts that enrolled
// together do not renew together, and repeated calls return the same time.
func RenewAt(c *x509.Certificate, name string) time.Time {
	made, life := Life(c)
	sum := sha256.Sum256([]byte(name))
	part := float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
	return made.Add(life*2/3 + time.Duration(part*float64(life/20)))
}

// Due reports whether a certificate must be renewed: from RenewAt on, and before its
// NotBefore, because then the issuing clock was ahead and the certificate stays invalid
// until that time.
func Due(c *x509.Certificate, name string, now time.Time) bool {
	//off:clock_FutureCertificate
	return now.Before(c.NotBefore) || !now.Before(RenewAt(c, name))
}
