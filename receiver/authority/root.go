package authority

import (
	"crypto/x509"
	"fmt"
	"net/url"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/pki"
)

// readRoot reads Options.Root. On an error the certificates read before stay.
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
	return fault.Fix(fmt.Errorf("read [tls] root %s: %w", a.o.Root, err), "sudo chmod a+r "+a.o.Root+"   # it contains certificates, not keys")
}

// bundle returns the roots by which hosts verify their servers. The receiver verifies hosts
// by the authority's CAs only: the owner of another root cannot issue a host's certificate.
func (a *Authority) bundle() []*x509.Certificate {
	return append(a.ca.trust(a.o.Now()), a.root...)
}

// pinnedRoot returns the root that a new host finds at the authority's address: the CA, or
// Options.Root if a proxy serves both the receiver and the authority.
func (a *Authority) pinnedRoot() *x509.Certificate {
	if len(a.root) > 0 && sameServer(a.o.Config.URL, a.o.PublicURL) {
		return a.root[0]
	}
	return a.ca.Cert
}

// sameServer reports whether two URLs have the same host and port.
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
