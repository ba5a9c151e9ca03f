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
	"cis490/receiver/roster"
)

// overlap is how long the CA before the present one is still trusted. A host
// that was off for less finds its way back.
const overlap = 120 * 24 * time.Hour

// ca is the present CA and those before it.
type ca struct {
	pki.Issuer
	older []olderCA // newest first
}

// olderCA is a CA that was rotated out. It counts for as long as the
// certificate by which it accepts its successor.
type olderCA struct{ cross, root *x509.Certificate }

// live returns the older CAs that still count.
func (c ca) live(now time.Time) []olderCA {
	var live []olderCA
	for _, o := range c.older {
		if now.Before(o.cross.NotAfter) && now.Before(o.root.NotAfter) {
			live = append(live, o)
		}
	}
	return live
}

// trust returns every CA that is trusted now, the present one first.
func (c ca) trust(now time.Time) []*x509.Certificate {
	all := []*x509.Certificate{c.Cert}
	for _, o := range c.live(now) {
		all = append(all, o.root)
	}
	return all
}

// chain returns what a server presents after its own certificate, so that a host
// that knows only an older CA accepts it.
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
	b = append(b, pki.EncodeCerts(c.Cert)...)
	for _, o := range c.live(now) {
		b = append(b, pki.EncodeCerts(o.cross, o.root)...)
	}
	return b, nil
}

// openCA reads the CA, or makes one where there has never been any.
func (a *Authority) openCA() error {
	b, err := disk.ReadFile(a.o.FS, a.path(KeyFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(a.neverIssued(), a.neverKnown()); err != nil {
			return err
		}
		made, err := pki.NewCA(a.o.Now())
		if err != nil {
			return err
		}
		a.o.Log.Info("made a new certificate authority", "path", a.path(KeyFile), "pin", pki.PinOf(made.Cert))
		return a.adopt(ca{Issuer: made})
	}
	if err != nil {
		return fmt.Errorf("read the CA: %w", err)
	}
	c, err := a.parseCA(b)
	if err != nil {
		return fault.Fix(fmt.Errorf("read the CA %s: %w", a.path(KeyFile), err), "sudo cis490 restore   # from a backup; a new CA would make every host join again")
	}
	a.ca = c
	return a.publishCA()
}

// neverIssued refuses to make a CA in the place of one that was lost.
func (a *Authority) neverIssued() error {
	for _, name := range []string{CAFile, TrustFile, IssuedFile, roster.File} {
		if fi, err := a.o.FS.Lstat(a.path(name)); err == nil && fi.Size() > 0 {
			return fault.Fix(fmt.Errorf("the CA key %s is missing, but %s exists", a.path(KeyFile), name),
				"sudo cis490 restore   # from a backup; a new CA would make every host join again")
		}
	}
	return nil
}

// parseCA reads the key file: key, certificate, then each older CA with its
// signature of the next. A CA that was brought along may have its certificate
// in a file of its own.
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
		return ca{}, fmt.Errorf("the certificate is not a CA's, or ran out at %s", c.Cert.NotAfter.Format(time.RFC3339))
	}
	for rest := certs[1:]; len(rest) >= 2; rest = rest[2:] {
		c.older = append(c.older, olderCA{cross: rest[0], root: rest[1]})
	}
	return c, nil
}

// adopt makes a CA the present one. The rename of its one file decides; the
// files that follow from it are written after, or at the next start.
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

// publishCA writes what others read of the CA, where it is not so already.
func (a *Authority) publishCA() error {
	return errors.Join(
		a.remember(),
		a.converge(TrustFile, publicMode, pki.EncodeCerts(a.ca.trust(a.o.Now())...)),
		a.converge(CAFile, publicMode, pki.EncodeCerts(a.ca.Cert)))
}

// converge writes a file unless it has this content and mode.
func (a *Authority) converge(name string, perm os.FileMode, content []byte) error {
	fi, err := a.o.FS.Lstat(a.path(name))
	if err == nil && fi.Mode() == perm {
		if have, err := disk.ReadFile(a.o.FS, a.path(name), maxFile); err == nil && bytes.Equal(have, content) {
			return nil
		}
	}
	return disk.ReplaceBytes(a.o.FS, a.path(name), perm, content)
}

// rotate makes a new CA and has the old one sign it. Hosts hear of it at their
// next renewal, and until then accept servers by that signature.
func (a *Authority) rotate() error {
	now := a.o.Now()
	next, err := pki.NewCA(now)
	if err != nil {
		return err
	}
	from := now
	if last, ok, err := ledger.Last(a.o.FS, a.path(roster.File), timeKey); err != nil {
		return err
	} else if ok && last.At.After(from) {
		from = last.At // a clock that is behind must not end the overlap before it began
	}
	cross, err := a.ca.Cross(next.Cert, now, from.Add(overlap))
	if err != nil {
		return err
	}
	older := append([]olderCA{{cross, a.ca.Cert}}, a.ca.live(now)...)
	if err := a.adopt(ca{Issuer: next, older: older}); err != nil {
		return err
	}
	return a.keepServerCerts()
}

// retire ends the trust in every older CA at once. Who knows only one of them has
// to join again.
func (a *Authority) retire() error {
	if err := a.adopt(ca{Issuer: a.ca.Issuer}); err != nil {
		return err
	}
	return a.keepServerCerts()
}
