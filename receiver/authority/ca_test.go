package authority_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
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

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// handshake returns the error of a client that trusts these roots and connects to the
// listener.
func (s *harness) handshake(roots *x509.CertPool) error {
	d := &tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{RootCAs: roots, Time: s.clock.now, MinVersion: tls.VersionTLS13},
	}
	c, err := d.DialContext(s.t.Context(), "tcp", s.auth.Addr().String())
	if err == nil {
		err = c.Close()
	}
	return err
}

func TestCA_ALostKeyIsNotReplaced(t *testing.T) {
	for _, lost := range []string{authority.KeyFile, "all but issued.jsonl"} {
		s := newHarness(t)
		if _, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: s.token("lab-01").Secret}); err != nil {
			t.Fatal(err)
		}
		s.stop()
		names := []string{lost}
		if lost != authority.KeyFile {
			names = []string{authority.KeyFile, authority.CAFile, authority.TrustFile, "roster.jsonl"}
		}
		for _, name := range names {
			if err := os.Remove(s.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		if a, err := authority.New(s.options()); err == nil || fault.FixOf(err) == "" {
			t.Errorf("%s lost: New = %v, %v", lost, a, err)
		}
		if _, err := os.Stat(s.path(authority.KeyFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s lost: a new key was made", lost)
		}
	}
}

// A start that fails because of a ledger, which systemd repeats every few seconds, issues
// no server certificate.
func TestNew_IssuesNothingWithoutItsLedgers(t *testing.T) {
	s := newHarness(t)
	s.stop()
	for _, name := range []string{authority.ServerFile, authority.TokensFile} {
		if err := os.Remove(s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(s.path(authority.TokensFile), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.New(s.options()); err == nil {
		t.Error("the authority starts without its tokens")
	}
	if _, err := os.Stat(s.path(authority.ServerFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a server certificate was issued: %v", err)
	}
}

func TestCA_ForeignCertificateIsRefused(t *testing.T) {
	s := newHarness(t)
	s.stop()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(authority.KeyFile), private, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.New(s.options()); err == nil {
		t.Error("a key that does not match the certificate was accepted")
	}
}

// An imported CA has its key and its certificate in two files.
func TestCA_Imported(t *testing.T) {
	s := newHarness(t)
	s.stop()
	ca, err := pki.NewCA(s.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	private, err := pki.EncodeKey(ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{authority.KeyFile: private, authority.CAFile: pki.EncodeCerts(ca.Cert)} {
		if err := os.WriteFile(s.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	if tok := s.token("lab-01"); !tok.Pinned(pki.PinOf(ca.Cert)) {
		t.Error("tokens do not carry its pin")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	if err := s.handshake(roots); err != nil {
		t.Error(err)
	}
}

func TestCA_RotationKeepsEveryoneIn(t *testing.T) {
	s := newHarness(t)
	early := s.token("lab-02") // made before, used after
	csr := s.csr("lab-01")
	first, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: s.token("lab-01").Secret})
	if err != nil {
		t.Fatal(err)
	}
	oldRoots := s.roots()
	for range 2 { // twice: the chain grows
		if _, err := s.ask.RotateCA(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.handshake(oldRoots); err != nil {
		t.Errorf("a host that knows only the first CA: %v", err)
	}
	if err := s.handshake(s.roots()); err != nil {
		t.Errorf("a host that knows the new CA: %v", err)
	}
	chain, err := pki.ParseCerts([]byte(first.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.VerifyClient(chain, s.roots(), s.clock.now()); err != nil {
		t.Errorf("the certificate issued before: %v", err)
	}
	if certs := mustCerts(t, s.path(authority.TrustFile)); !early.Pinned(pki.PinOf(certs[len(certs)-1])) {
		t.Error("the pin of a token made before is not among the roots")
	}
	if _, err := s.post("lab-02", wire.CertRequest{CSR: s.csr("lab-02"), Token: early.Secret}); err != nil {
		t.Errorf("a token made before: %v", err)
	}
	second, err := s.post("lab-01", wire.CertRequest{CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	if certs, err := pki.ParseCerts([]byte(second.CA)); err != nil || len(certs) != 3 {
		t.Errorf("the bundle at renewal has %d CAs, want 3 (%v)", len(certs), err)
	}
	s.clock.pass(121 * 24 * time.Hour)
	s.stop()
	s.start()
	if n := len(mustCerts(t, s.path(authority.TrustFile))); n != 1 {
		t.Errorf("%d CAs are trusted after the overlap, want 1", n)
	}
	if err := s.handshake(oldRoots); err == nil {
		t.Error("the old CA is trusted after the overlap")
	}
}

// TestCA_RotationRepeated: a rotation that cannot be finished creates no CA, however often it is
// tried. A host that knows only the first CA is served by the last one that may be created.
func TestCA_RotationRepeated(t *testing.T) {
	s := newHarness(t)
	oldRoots, server := s.roots(), s.path(authority.ServerFile)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Rename(server, server+".away"))
	must(os.MkdirAll(filepath.Join(server, "in-the-way"), 0o755))
	for range 3 {
		if _, err := s.ask.RotateCA(t.Context()); err == nil {
			t.Fatal("rotated without a server certificate")
		}
	}
	if n := len(mustCerts(t, s.path(authority.TrustFile))); n != 1 {
		t.Errorf("%d CAs are trusted after failed rotations, want 1", n)
	}
	must(os.RemoveAll(server))
	for {
		i, err := s.ask.CA(t.Context())
		must(err)
		if len(i.Older) == 10 {
			break
		}
		_, err = s.ask.RotateCA(t.Context())
		must(err)
	}
	must(s.handshake(oldRoots))
	if _, err := s.ask.RotateCA(t.Context()); err == nil || !strings.Contains(err.Error(), "10 older CAs") {
		t.Errorf("one more: %v", err)
	}
	_, err := s.ask.RetireCA(t.Context())
	must(err)
	_, err = s.ask.RotateCA(t.Context())
	must(err)
}

func TestCA_RetiredIsNotTrusted(t *testing.T) {
	s := newHarness(t)
	csr := s.csr("lab-01")
	first, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: s.token("lab-01").Secret})
	if err != nil {
		t.Fatal(err)
	}
	oldRoots := s.roots()
	if _, err := s.ask.RotateCA(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := s.post("lab-01", wire.CertRequest{CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	if i, err := s.ask.RetireCA(t.Context()); err != nil || len(i.Older) != 0 {
		t.Fatalf("%+v, %v", i, err)
	}
	for name, c := range map[string]struct {
		answer wire.CertAnswer
		in     bool
	}{"issued by the retired CA": {first, false}, "renewed since": {second, true}} {
		chain, err := pki.ParseCerts([]byte(c.answer.Certificate))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.VerifyClient(chain, s.roots(), s.clock.now()); (err == nil) != c.in {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.handshake(oldRoots); err == nil {
		t.Error("a client that trusts only the retired CA accepts the server")
	}
	if err := s.handshake(s.roots()); err != nil {
		t.Error(err)
	}
	s.stop()
	s.start()
	if n := len(mustCerts(t, s.path(authority.TrustFile))); n != 1 {
		t.Errorf("%d CAs are trusted after a restart", n)
	}
}

func TestServerCertificates_RenewedAndLoaded(t *testing.T) {
	s := newHarness(t)
	before := read(t, s.path(authority.ServerFile))
	s.stop()
	s.start()
	if !bytes.Equal(before, read(t, s.path(authority.ServerFile))) {
		t.Error("a restart alone changed the server certificate")
	}
	s.stop()
	s.clock.pass(70 * 24 * time.Hour) // of 90
	s.start()
	if bytes.Equal(before, read(t, s.path(authority.ServerFile))) {
		t.Error("it was not renewed after two thirds of its life")
	}
	if err := s.handshake(s.roots()); err != nil {
		t.Error(err)
	}
}

func TestAuthority_TwiceOnOneFolderIsRefused(t *testing.T) {
	s := newHarness(t)
	o := s.options()
	o.Config.Socket = filepath.Join(s.dir, "other.sock")
	if _, err := authority.New(o); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("New = %v, want %v", err, disk.ErrLocked)
	}
	if _, err := s.ask.Hosts(t.Context()); err != nil {
		t.Errorf("the first authority fails: %v", err)
	}
}

// failing is a disk whose changes fail after a number of them.
type failing struct {
	disk.OS
	left int
}

var errFails = errors.New("disk fails")

func (f *failing) step() error {
	if f.left--; f.left < 0 {
		return errFails
	}
	return nil
}

func (f *failing) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if flag != os.O_RDONLY {
		if err := f.step(); err != nil {
			return nil, err
		}
	}
	return f.OS.OpenFile(name, flag, perm)
}

func (f *failing) Rename(a, b string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.OS.Rename(a, b)
}

func (f *failing) SyncDir(name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.OS.SyncDir(name)
}

// The first start is interrupted at each step. The next start succeeds, with the CA of the
// first if that was published.
func TestFirstStart_CutOffAtEveryStep(t *testing.T) {
	for step := 0; ; step++ {
		s := &harness{t: t, dir: t.TempDir(), clock: &clock{at: time.Now()}, log: &log{}}
		s.fs = &failing{left: step}
		a, err := authority.New(s.options())
		done := err == nil
		if done {
			err = a.Close()
		} else if !errors.Is(err, errFails) {
			t.Fatalf("step %d: %v", step, err)
		}
		if done && err != nil {
			t.Fatal(err)
		}
		shown, _ := os.ReadFile(s.path(authority.CAFile))
		s.fs = disk.OS{}
		s.start()
		if now := read(t, s.path(authority.CAFile)); shown != nil && !bytes.Equal(shown, now) {
			t.Errorf("step %d: the published CA is not the one in use", step)
		}
		if _, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: s.token("lab-01").Secret}); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
		s.stop()
		if done {
			if step < 15 {
				t.Errorf("only %d steps", step)
			}
			return
		}
	}
}

// A request whose row cannot be written fails, and changes nothing.
func TestAuthority_DiskFullAnswersNothing(t *testing.T) {
	s := newHarness(t)
	tok, csr := s.token("lab-01"), s.csr("lab-01")
	s.stop()
	s.fs = &cutLedger{}
	s.start()
	for _, rows := range []int{0, 1, 1} { // fails at the token's row, the issue's, the roster's
		s.fs.(*cutLedger).allow(rows)
		_, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret})
		wantKind(t, err, wire.Broken)
		if h := s.host("lab-01"); h.Key != "" {
			t.Errorf("after %d rows: the host is %+v", rows, h)
		}
	}
	s.fs.(*cutLedger).allow(1 << 20)
	a, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret})
	if err != nil || !s.host("lab-01").Valid(serial(t, a)) {
		t.Errorf("the same key, later: %v", err)
	}
	if err := s.get(wire.AuthorityHealthPath); err != nil {
		t.Error(err)
	}
}

func (s *harness) get(path string) error {
	conf := pki.ClientTLS(s.roots(), nil)
	conf.Time = s.clock.now
	cl := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+s.auth.Addr().String()+path, nil)
	if err != nil {
		return err
	}
	res, err := cl.Do(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return errors.Join(err, res.Body.Close())
}
