package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ledger"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/receiver/local"
)

// overlap is how long a CA stays trusted after its rotation. A host that was off for less
// can still renew.
const overlap = 120 * 24 * time.Hour

// maxOlder bounds the older CAs that are trusted. crypto/x509 gives up after 100 signatures of
// CAs with one name.
const maxOlder = 10

// ca is the current CA and its predecessors.
type ca struct {
	pki.Issuer
	older []olderCA // newest first
}

// olderCA is a CA that was rotated out. cross is its signature of its successor: it is
// trusted until cross expires.
type olderCA struct{ cross, root *x509.Certificate }

// live returns the older CAs that are still trusted.
func (c ca) live(now time.Time) []olderCA {
	var live []olderCA
	for _, o := range c.older {
		if now.Before(o.cross.NotAfter) && now.Before(o.root.NotAfter) {
			live = append(live, o)
		}
	}
	return live
}

// trust returns all trusted CAs, the current one first.
func (c ca) trust(now time.Time) []*x509.Certificate {
	all := []*x509.Certificate{c.Cert}
	for _, o := range c.live(now) {
		all = append(all, o.root)
	}
	return all
}

// chain returns the certificates that a server presents after its own, so that a host that
// knows only an older CA accepts it.
func (c ca) chain(now time.Time) []*x509.Certificate {
	var all []*x509.Certificate
	for _, o := range c.live(now) {
		all = append(all, o.cross)
	}
	return all
}

func (c ca) encode(now time.Time) ([]byte, error) {
	b, err := pki.EncodeKey(c.Key)
	if err != nil {
		return nil, err
	}
	return append(b, c.public(now)...), nil
}

// public returns the CA without its key.
func (c ca) public(now time.Time) []byte {
	b := pki.EncodeCerts(c.Cert)
	for _, o := range c.live(now) {
		b = append(b, pki.EncodeCerts(o.cross, o.root)...)
	}
	return b
}

// openCA reads the CA, or creates one if there never was any.
func (a *Authority) openCA() error {
	b, err := disk.ReadFile(a.o.FS, a.path(KeyFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(a.checkNothingIssued(), a.checkNoPin()); err != nil {
			return err
		}
		made, err := pki.NewCA(a.o.Now())
		if err != nil {
			return err
		}
		a.o.Log.Info("created a certificate authority", "path", a.path(KeyFile), "pin", pki.PinOf(made.Cert))
		return a.adopt(ca{Issuer: made})
	}
	if err != nil {
		return fmt.Errorf("read the CA: %w", err)
	}
	c, err := a.parseCA(b)
	if err != nil {
		return fault.Fix(fmt.Errorf("read the CA %s: %w", a.path(KeyFile), err),
			"sudo cis490 restore   # from a backup; a new CA would make every host join again")
	}
	a.ca = c
	return a.publishCA()
}

// checkNothingIssued returns an error if files show that a CA was here, so that none is
// created in place of a lost one.
func (a *Authority) checkNothingIssued() error {
	for _, name := range []string{CAFile, TrustFile, IssuedFile, local.RosterFile} {
		if fi, err := a.o.FS.Lstat(a.path(name)); err == nil && fi.Size() > 0 {
			return fault.Fix(fmt.Errorf("the CA key %s is missing, but %s exists", a.path(KeyFile), name),
				"sudo cis490 restore   # from a backup; a new CA would make every host join again")
		}
	}
	return nil
}

// parseCA parses the key file: key, certificate, then for each older CA its signature of
// the next one and its certificate. An imported CA may have its certificate in CAFile.
func (a *Authority) parseCA(b []byte) (ca, error) {
	key, err := pki.ParseKey(b)
	if err != nil {
		return ca{}, err
	}
	certs, err := pki.ParseCerts(b)
	if err != nil {
		beside, readErr := disk.ReadFile(a.o.FS, a.path(CAFile), maxFile)
		if readErr != nil {
			return ca{}, errors.Join(err, readErr)
		}
		if certs, err = pki.ParseCerts(beside); err != nil {
			return ca{}, err
		}
		certs = certs[:1]
	}
	c := ca{Issuer: pki.Issuer{Cert: certs[0], Key: key}}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(c.Cert.PublicKey) {
		return ca{}, errors.New("key and certificate do not belong together")
	}
	if !c.Cert.IsCA || !a.o.Now().Before(c.Cert.NotAfter) {
		return ca{}, fmt.Errorf("the certificate is not a CA's, or expired at %s", plain.Time(c.Cert.NotAfter))
	}
	return caOf(key, certs), nil
}

// caOf returns a CA by its key and what its file has besides.
func caOf(key crypto.Signer, certs []*x509.Certificate) ca {
	c := ca{Issuer: pki.Issuer{Cert: certs[0], Key: key}}
	for rest := certs[1:]; len(rest) >= 2; rest = rest[2:] {
		c.older = append(c.older, olderCA{cross: rest[0], root: rest[1]})
	}
	return c
}

// adopt makes a CA the current one. The rename of its file is the commit point; the files
// derived from it are written afterwards, or at the next start.
func (a *Authority) adopt(c ca) error {
	b, err := c.encode(a.o.Now())
	if err != nil {
		return err
	}
	if err := disk.ReplaceBytes(a.o.FS, a.path(KeyFile), privateMode, b); err != nil {
		return fmt.Errorf("store the CA: %w", err)
	}
	a.ca = c
	return a.publishCA()
}

// publishCA writes the files that other processes read, if they differ, and records them in the
// database.
func (a *Authority) publishCA() error {
	return errors.Join(a.writeCA(), a.recordCA())
}

func (a *Authority) writeCA() error {
	return errors.Join(
		a.recordPin(),
		a.ensureFile(TrustFile, publicMode, pki.EncodeCerts(a.ca.trust(a.o.Now())...)),
		a.ensureFile(CAFile, publicMode, pki.EncodeCerts(a.ca.Cert)))
}

// ensureFile writes a file unless it has the content and mode.
func (a *Authority) ensureFile(name string, perm os.FileMode, content []byte) error {
	fi, err := a.o.FS.Lstat(a.path(name))
	if err == nil && fi.Mode() == perm {
		if have, err := disk.ReadFile(a.o.FS, a.path(name), maxFile); err == nil && bytes.Equal(have, content) {
			return nil
		}
	}
	return disk.ReplaceBytes(a.o.FS, a.path(name), perm, content)
}

// rotate creates a new CA and signs it with the old one. Hosts get the new CA at their next
// renewal; until then they accept servers by that signature. While the last rotation cannot be
// finished, a retry creates no further CA.
func (a *Authority) rotate() error {
	if err := a.holds(); err != nil {
		return err
	}
	if err := errors.Join(a.publishCA(), a.ensureServerCerts()); err != nil {
		return err
	}
	now := a.o.Now()
	if n := len(a.ca.live(now)); n >= maxOlder {
		return invalid("too many older CAs", "sudo cis490 ca retire   # hosts that have not renewed since the last rotation must join again",
			"%d older CAs are still trusted", n)
	}
	next, err := pki.NewCA(now)
	if err != nil {
		return err
	}
	from := now
	if last, ok, err := ledger.Last(a.o.FS, a.path(local.RosterFile), timeKey); err != nil {
		return err
	} else if ok && last.At.After(from) {
		from = last.At // if the clock is behind, the overlap would end too early
	}
	cross, err := a.ca.Cross(next.Cert, now, from.Add(overlap))
	if err != nil {
		return err
	}
	older := append([]olderCA{{cross, a.ca.Cert}}, a.ca.live(now)...)
	if err := a.adopt(ca{Issuer: next, older: older}); err != nil {
		return err
	}
	return a.ensureServerCerts()
}

// retire ends the trust in all older CAs. A host that knows only one of them has to join
// again.
func (a *Authority) retire() error {
	if err := a.holds(); err != nil {
		return err
	}
	if err := a.adopt(ca{Issuer: a.ca.Issuer}); err != nil {
		return err
	}
	return a.ensureServerCerts()
}
