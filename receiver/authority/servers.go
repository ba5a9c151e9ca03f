package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	"cis490/internal/disk"
	"cis490/internal/pki"
)

// serverNames returns the names of server certificates: the hosts of URLs, and more. They
// come from the config, which only root can change.
func serverNames(urls []string, more ...string) ([]string, error) {
	var names []string
	for _, u := range urls {
		p, err := url.Parse(u)
		if err != nil || p.Hostname() == "" {
			return nil, fmt.Errorf("url %q has no host", u)
		}
		names = append(names, p.Hostname())
	}
	for _, n := range more {
		if n != "" {
			names = append(names, n)
		}
	}
	var once []string
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil { // the form that certificates have
			n = ip.String()
		}
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	return once, nil
}

// ensureServerCerts issues a server certificate that is missing, past two thirds of its
// life, for other names, by another CA, or not valid yet because it was issued while the
// clock was ahead.
func (a *Authority) ensureServerCerts() error {
	return errors.Join(a.ensureServerCert(ServerFile, groupMode), a.ensureServerCert(ListenerFile, privateMode))
}

func (a *Authority) ensureServerCert(name string, perm os.FileMode) error {
	now := a.o.Now()
	if b, err := disk.ReadFile(a.o.FS, a.path(name), maxFile); err == nil {
		if a.serverCertValid(b, name, now) {
			return nil
		}
	}
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	cert, err := a.ca.Server(key.Public(), a.names, now, a.o.Config.ServerLife.D())
	if err != nil {
		return err
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	b := append(pki.EncodeCerts(append([]*x509.Certificate{cert}, a.ca.chain(now)...)...), private...)
	if err := disk.ReplaceBytes(a.o.FS, a.path(name), perm, b); err != nil {
		return fmt.Errorf("store server certificate: %w", err)
	}
	a.o.Log.Info("issued a server certificate", "path", a.path(name), "names", a.names, "serial", pki.Serial(cert), "expires", cert.NotAfter)
	return nil
}

func (a *Authority) serverCertValid(b []byte, name string, now time.Time) bool {
	pair, err := pki.ParsePair(b)
	if err != nil {
		return false
	}
	var names []string
	names = append(names, pair.Leaf.DNSNames...)
	for _, ip := range pair.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	want := slices.Clone(a.names)
	slices.Sort(names)
	slices.Sort(want)
	return slices.Equal(names, want) &&
		pair.Leaf.CheckSignatureFrom(a.ca.Cert) == nil &&
		len(pair.Certificate) == 1+len(a.ca.chain(now)) &&
		!pki.Due(pair.Leaf, name, now)
}

// renewServerCerts renews the server certificates until the context ends. It checks them
// 60 times in their life, at least once a minute and at most once a second. After each
// check it pings the watchdog, which proves that no change hangs.
func (a *Authority) renewServerCerts(ctx context.Context) {
	every := min(max(a.o.Config.ServerLife.D()/60, time.Second), time.Minute)
	tick := time.NewTicker(max(every, a.o.Poll))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.mu.Lock()
		err := errors.Join(a.publishCA(), a.ensureServerCerts(), a.readRoot())
		a.mu.Unlock()
		a.o.Notify("WATCHDOG=1")
		if err != nil {
			a.o.Log.Error("cannot renew the server certificates", "path", a.o.Config.Dir, "err", err)
		}
	}
}
