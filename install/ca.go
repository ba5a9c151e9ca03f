package install

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/pki"
)

// caKeyFile is the authority's CA: key and certificate in one file.
const caKeyFile = "ca.key"

// loadCA reads the site's own CA and checks that the authority can use it.
func (p *Plan) loadCA() ([]byte, error) {
	switch {
	case p.CACert == "" && p.CAKey == "":
		return nil, nil
	case p.CACert == "" || p.CAKey == "":
		return nil, fault.Exit(errors.New("--ca-cert and --ca-key must be used together"), fault.Usage)
	}
	bring := func(path string, err error) error {
		return fault.Exit(fault.Fix(fmt.Errorf("read the CA: %s: %w", path, err),
			"openssl x509 -noout -text -in "+p.CACert+"   # need a CA certificate in PEM, and its unencrypted key"), fault.Usage)
	}
	b, err := disk.ReadFile(p.FS, p.CACert, maxText)
	if err != nil {
		return nil, bring(p.CACert, err)
	}
	certs, err := pki.ParseCerts(b)
	if err != nil {
		return nil, bring(p.CACert, err)
	}
	if b, err = disk.ReadFile(p.FS, p.CAKey, maxText); err != nil {
		return nil, bring(p.CAKey, err)
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		return nil, bring(p.CAKey, err)
	}
	cert := certs[0]
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return nil, bring(p.CACert, errors.New("key and certificate do not match"))
	}
	if now := p.Now(); !cert.IsCA || now.Before(cert.NotBefore) || !now.Before(cert.NotAfter) {
		return nil, bring(p.CACert, fmt.Errorf("not a CA certificate, or not valid now (%s to %s)", cert.NotBefore, cert.NotAfter))
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		return nil, bring(p.CAKey, err)
	}
	return append(private, pki.EncodeCerts(cert)...), nil
}

// ca installs the site's own CA before the authority makes one. It never replaces a CA,
// because every host would have to join again.
func (p *Plan) ca(content []byte) step {
	return step{"CA", func(context.Context) ([]Change, error) {
		if content == nil {
			return nil, nil
		}
		f := file{
			path: filepath.Join(p.rx.Authority.Dir, caKeyFile), content: content,
			owner: owner{authority, nameOfUs}, mode: 0o600, secret: true,
		}
		have, err := disk.ReadFile(p.FS, p.at(f.path), maxText)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil && !sameCA(have, content) {
			return nil, wrong(config.ReceiverPath, fault.Fix(
				fmt.Errorf("the authority already has another CA: %s", f.path),
				"sudo cis490 install receiver   # without --ca-cert and --ca-key, to keep it; or: sudo cis490 ca rotate, to make a new one"))
		}
		if err == nil {
			return nil, nil // the authority owns the file from now on
		}
		c, err := f.check(p)
		if c == nil {
			return nil, err
		}
		return []Change{*c}, err
	}}
}

// sameCA reports whether two files start with the same CA certificate.
func sameCA(a, b []byte) bool {
	ca, errA := pki.ParseCerts(a)
	cb, errB := pki.ParseCerts(b)
	return errA == nil && errB == nil && ca[0].Equal(cb[0])
}
