package checks

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/pki"
)

// The credential files in certs_dir.
const (
	caFile      = "ca.crt"
	pairFile    = "lab-host.pem"
	bearerFile  = "bearer"
	tokenFile   = "join-token"
	pendingFile = "key.pending"
)

// Fixes that several checks share.
const (
	fetchFix  = here + "sudo systemctl start cis490-cert-fetch; sudo journalctl -u cis490-cert-fetch -n 20 --no-pager"
	enrollFix = "on the receiver: sudo cis490 token create HOST   # then paste what it prints on the lab host"
)

func (h *host) credentials() []check.Check {
	return []check.Check{
		{
			ID: "cert.present", Title: "Certificate and key exist", Severity: check.Hard, Fix: fetchFix,
			Doc: "lab-host.pem holds a certificate chain and its key. Without it nothing ships. " +
				"cert-fetch requests it every 5 minutes while a join token exists.",
			Run: h.needsConfig(h.certPresent),
		},
		{
			ID: "cert.expiry", Title: "Certificate is valid and not about to expire", Severity: check.Hard,
			Fix: here + "sudo cis490 cert-fetch --renew",
			Doc: "Certificates are renewed at two thirds of their life. A warning in the last sixth means that renewal does not work; " +
				"after expiry nothing ships. Renewal also works long after expiry.",
			Run: h.needsConfig(h.certExpiry),
		},
		{
			ID: "cert.host", Title: "Certificate names this host", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only cert.host   # shows both names: set host in " + h.Path +
				" to the one of the certificate; for a new name, " + enrollFix,
			Doc: "The receiver uses only the name in the certificate; the config must have the same name.",
			Run: h.needsConfig(h.certHost),
		},
		{
			ID: "cert.trusted", Title: "Certificate is from this fleet's CA", Severity: check.Hard, Fix: enrollFix,
			Doc: "ca.crt exists and the certificate's chain ends in it.",
			Run: h.needsConfig(h.certTrusted),
		},
		{
			ID: "bearer.present", Title: "Bearer token exists", Severity: check.Hard, Fix: enrollFix,
			Doc: "The second credential beside the certificate. It is issued only at enrollment.",
			Run: h.needsConfig(h.bearer),
		},
	}
}

// leaf reads this host's certificate chain. On an error it returns the check's result.
func (h *host) leaf() (chain []*x509.Certificate, bad *check.Result) {
	b, err := disk.ReadFile(disk.OS{}, h.cert(pairFile), disk.Small)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, new(check.Skipf("no certificate yet"))
	case errors.Is(err, fs.ErrPermission):
		return nil, new(check.Skipf("%s is not readable by this user: "+machine.WithSudo, h.cert(pairFile)))
	case err != nil:
		return nil, new(check.Failf("%v", err))
	}
	chain, err = pki.ParseCerts(b)
	if err != nil {
		return nil, new(check.Failf("%s: %v", h.cert(pairFile), err))
	}
	return chain, nil
}

func (h *host) certPresent(context.Context) check.Result {
	chain, bad := h.leaf()
	if bad == nil {
		b, err := disk.ReadFile(disk.OS{}, h.cert(pairFile), disk.Small)
		if err == nil {
			_, err = pki.ParsePair(b)
		}
		if err != nil {
			return check.Failf("%s: %v", h.cert(pairFile), err)
		}
		return check.Passf("%s, serial %s", h.cert(pairFile), pki.Serial(chain[0]))
	}
	if bad.Detail != "no certificate yet" {
		return *bad
	}
	if _, err := (disk.OS{}).Lstat(h.cert(tokenFile)); err == nil {
		return check.Failf("%s does not exist; a join token exists, so cert-fetch will request it", h.cert(pairFile))
	}
	return check.Failf("neither %s nor a join token exists", h.cert(pairFile))
}

func (h *host) certExpiry(context.Context) check.Result {
	chain, bad := h.leaf()
	if bad != nil {
		return *bad
	}
	return machine.Expiry(chain[0], h.Now())
}

func (h *host) certHost(context.Context) check.Result {
	chain, bad := h.leaf()
	if bad != nil {
		return *bad
	}
	if cn := chain[0].Subject.CommonName; cn != h.Config.Host {
		return check.Failf("the certificate names %q, the config %q", cn, h.Config.Host)
	}
	return check.Passf("%s", h.Config.Host)
}

func (h *host) certTrusted(context.Context) check.Result {
	b, err := disk.ReadFile(disk.OS{}, h.cert(caFile), disk.Small)
	if err != nil {
		return check.Failf("%v", err)
	}
	roots, err := pki.ParseCerts(b)
	if err != nil {
		return check.Failf("%s: %v", h.cert(caFile), err)
	}
	chain, bad := h.leaf()
	if bad != nil {
		return *bad
	}
	pool := x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	// cert.expiry checks the validity period.
	if _, err := pki.VerifyClient(chain, pool, h.Now()); err != nil && !errors.Is(err, pki.ErrValidity) {
		return check.Failf("%v", err)
	}
	return check.Passf("issued by %s, pin %.12s…", roots[0].Subject.CommonName, pki.PinOf(roots[0]))
}

// enrolled returns when the current certificate was installed; zero if there is none.
func (h *host) enrolled() time.Time {
	fi, err := disk.OS{}.Lstat(h.cert(pairFile))
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

func (h *host) bearer(context.Context) check.Result {
	b, err := disk.ReadFile(disk.OS{}, h.cert(bearerFile), disk.Small)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return check.Skipf("%s is not readable by this user: "+machine.WithSudo, h.cert(bearerFile))
	case err != nil:
		return check.Failf("%v", err)
	case strings.TrimSpace(string(b)) == "":
		return check.Failf("%s is empty", h.cert(bearerFile))
	}
	return check.Passf("%s", h.cert(bearerFile))
}
