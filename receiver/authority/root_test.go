package authority_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
)

// TestRoot_Imported: hosts trust the root of an imported certificate, and serve does not.
// Tokens pin the root if a proxy serves both receiver and authority.
func TestRoot_Imported(t *testing.T) {
	proxy, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(file, pki.EncodeCerts(proxy.Cert), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url      string // of the authority
		pinsRoot bool
	}{
		"an authority with its own port": {"https://rx.lab:8444", false},
		"all through the proxy":          {"https://rx.lab:8443/", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &harness{t: t, dir: t.TempDir(), clock: &clock{at: time.Now()}, log: &log{}, fs: disk.OS{}, root: file, url: c.url}
			s.start()
			t.Cleanup(func() { s.stop() })
			tok := s.token("lab-01")
			own := mustCerts(t, s.path(authority.CAFile))[0]
			want := pki.PinOf(own)
			if c.pinsRoot {
				want = pki.PinOf(proxy.Cert)
			}
			if !tok.Pinned(want) {
				t.Errorf("the token pins %s, want %s", tok.Pin, want)
			}
			a, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: tok.Secret})
			if err != nil {
				t.Fatal(err)
			}
			if a.CA != string(pki.EncodeCerts(own, proxy.Cert)) {
				t.Errorf("a host gets the CAs\n%s", a.CA)
			}
			if trust := mustCerts(t, s.path(authority.TrustFile)); len(trust) != 1 || !trust[0].Equal(own) {
				t.Error("serve trusts host certificates issued by the proxy's root")
			}
		})
	}
}

func TestRoot_Unreadable(t *testing.T) {
	s := &harness{t: t, dir: t.TempDir(), clock: &clock{at: time.Now()}, log: &log{}, fs: disk.OS{}, root: filepath.Join(t.TempDir(), "none")}
	a, err := authority.New(s.options())
	if err == nil {
		t.Fatal("started: ", a.Close())
	}
	if !strings.Contains(err.Error(), "[tls] root") || fault.FixOf(err) == "" {
		t.Errorf("%v, fix %q", err, fault.FixOf(err))
	}
}
