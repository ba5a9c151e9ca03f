package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"time"
)

// Life returns when a certificate was made, which is later than the start that
// it states, and how long it lives from then on.
func Life(c *x509.Certificate) (made time.Time, life time.Duration) {
	made = c.NotBefore.Add(backdate)
	if !made.Before(c.NotAfter) { // not one of ours
		made = c.NotBefore
	}
	return made, c.NotAfter.Sub(made)
}

// RenewAt returns when a certificate is to be renewed: at two thirds of its
// life, and up to a twentieth of it later. How much later hangs on the name
// alone, so that a fleet enrolled at once does not renew at once, and a host
// that asks again gets the same answer.
func RenewAt(c *x509.Certificate, name string) time.Time {
	made, life := Life(c)
	sum := sha256.Sum256([]byte(name))
	part := float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
	return made.Add(life*2/3 + time.Duration(part*float64(life/20)))
}

// Due reports whether a certificate is to be renewed at a time: from RenewAt on, and
// before its start, because then the clock that it was made by was ahead, and it is
// worth nothing for as long as that clock was wrong.
func Due(c *x509.Certificate, name string, now time.Time) bool {
	return now.Before(c.NotBefore) || !now.Before(RenewAt(c, name))
}
