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

// serverNames returns what the server certificates are for. Only the config,
// which root owns, has a say in it.
func serverNames(o Options) ([]string, error) {
	var names []string
	for _, u := range []string{o.PublicURL, o.Config.URL} {
		p, err := url.Parse(u)
		if err != nil || p.Hostname() == "" {
			return nil, fmt.Errorf("url %q has no host", u)
		}
		names = append(names, p.Hostname())
	}
	names = append(names, o.Config.Names...)
	if o.Hostname != "" {
		names = append(names, o.Hostname)
	}
	var once []string
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil { // as the certificate tells it
			n = ip.String()
		}
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	return once, nil
}

// keepServerCerts issues the two server certificates anew where they are
// missing, used up to two thirds, for other names, by another CA, or of a time
// that has not come: the clock was ahead, and no host would take them until then.
func (a *Authority) keepServerCerts() error {
	return errors.Join(a.keepServerCert(ServerFile, groupMode), a.keepServerCert(ListenerFile, privateMode))
}

func (a *Authority) keepServerCert(name string, perm os.FileMode) error {
	now := a.o.Now()
	if b, err := disk.ReadFile(a.o.FS, a.path(name), maxFile); err == nil {
		if a.stillGood(b, name, now) {
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

func (a *Authority) stillGood(b []byte, name string, now time.Time) bool {
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

// keepFresh looks after the server certificates until the context ends: often
// enough for lives of minutes, at most once a minute for lives of months. That
// it comes round shows the service manager that no change hangs.
func (a *Authority) keepFresh(ctx context.Context) {
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
		err := errors.Join(a.publishCA(), a.keepServerCerts(), a.readRoot())
		a.mu.Unlock()
		a.o.Notify("WATCHDOG=1")
		if err != nil {
			a.o.Log.Error("certificates could not be kept fresh", "path", a.o.Config.Dir, "err", err)
		}
	}
}
