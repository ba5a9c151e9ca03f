package install_test

import (
	"crypto"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/install"
	"cis490/internal/fault"
	"cis490/internal/pki"
)

// bring writes a CA's certificate and key to files of their own.
func bring(t *testing.T, ca pki.Issuer) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	private, err := pki.EncodeKey(ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{cert: pki.EncodeCerts(ca.Cert), key: private} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func newCA(t *testing.T) pki.Issuer {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestCA_BroughtAlongIsTakenOnceAndNeverReplaced(t *testing.T) {
	r := newHarness(t)
	ca := newCA(t)
	o := r.options(install.Receiver)
	o.CACert, o.CAKey = bring(t, ca)
	if out, _ := r.apply(o); strings.Contains(out, "PRIVATE KEY") {
		t.Error("install shows the CA's key")
	}
	path := filepath.Join(r.root, "var/lib/cis490-authority/ca.key")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCerts(b)
	if err != nil || !certs[0].Equal(ca.Cert) || !sameKey(t, ca.Key, key) {
		t.Errorf("the authority has another CA, %v", err)
	}
	if out, _ := r.apply(o); strings.Contains(out, "changed  CA") {
		t.Errorf("the same CA again:\n%s", out)
	}
	o.CACert, o.CAKey = bring(t, newCA(t))
	p, err := install.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "already has another CA") || fault.FixOf(err) == "" {
		t.Errorf("another CA: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(b) {
		t.Error("another CA took the place of the first")
	}
}

func TestCA_ThatCannotIssueIsRefused(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	server, err := ca.Server(other.Key.Public(), []string{"rx"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(11 * 365 * 24 * time.Hour) }
	for name, bad := range map[string]pki.Issuer{
		"another's key": {Cert: ca.Cert, Key: other.Key},
		"no CA":         {Cert: server, Key: other.Key},
		"ran out":       ca,
	} {
		r := newHarness(t)
		o := r.options(install.Receiver)
		if name == "ran out" {
			o.Now = later
		}
		o.CACert, o.CAKey = bring(t, bad)
		if _, err := install.New(o); err == nil || fault.CodeOf(err) != fault.Usage || fault.FixOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(r.root, "var")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was installed", name)
		}
		o.CAKey = ""
		if _, err := install.New(o); err == nil || fault.CodeOf(err) != fault.Usage {
			t.Errorf("%s, without its key: %v", name, err)
		}
	}
}

func sameKey(t *testing.T, a, b crypto.Signer) bool {
	t.Helper()
	x, errX := pki.KeyID(a.Public())
	y, errY := pki.KeyID(b.Public())
	return errX == nil && errY == nil && x == y
}
