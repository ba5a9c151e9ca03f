package authority

import (
	"crypto/x509"
	"fmt"
	"net/url"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/pki"
)

// readRoot reads the root that was brought along. One that cannot be read leaves
// what was read before.
func (a *Authority) readRoot() error {
	if a.o.Root == "" {
		return nil
	}
	b, err := disk.ReadFile(a.o.FS, a.o.Root, maxFile)
	if err == nil {
		var certs []*x509.Certificate
		if certs, err = pki.ParseCerts(b); err == nil {
			a.root = certs
			return nil
		}
	}
	return fault.Fix(fmt.Errorf("read [tls] root %s: %w", a.o.Root, err), "sudo chmod a+r "+a.o.Root+"   # it holds certificates, no key")
}

// bundle returns every root that a host shall trust its servers by. Hosts
// themselves are verified by the CA alone: who has another root of the bundle
// cannot make one.
func (a *Authority) bundle() []*x509.Certificate {
	return append(a.ca.trust(a.o.Now()), a.root...)
}

// pinned returns the root that a new host will find at the authority's address:
// the CA, or the brought one where a proxy leads both ways.
func (a *Authority) pinned() *x509.Certificate {
	if len(a.root) > 0 && sameServer(a.o.Config.URL, a.o.PublicURL) {
		return a.root[0]
	}
	return a.ca.Cert
}

// sameServer tells whether two URLs lead to the same name and port.
func sameServer(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	if errA != nil || errB != nil {
		return false
	}
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return "443"
	}
	return ua.Hostname() == ub.Hostname() && port(ua) == port(ub)
}
