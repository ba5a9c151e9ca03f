package authority_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// log stores log lines for a test.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// harness is a running authority and its clients.
type harness struct {
	t     testing.TB
	dir   string
	clock *clock
	log   *log
	fs    disk.FS
	auth  *authority.Authority
	ask   *authority.Client
	stop  func()
	root  string                  // brought along
	url   string                  // of the authority, where it is not its own address
	at    *atomic.Pointer[string] // its address, of an authority whose rows are in a database
}

func newHarness(t testing.TB) *harness {
	s := &harness{t: t, dir: t.TempDir(), clock: &clock{at: time.Now()}, log: &log{}, fs: disk.OS{}}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *harness) options() authority.Options {
	c := config.DefaultReceiver().Authority
	c.Listen, c.URL = "127.0.0.1:0", "https://127.0.0.1:1"
	c.Dir, c.Socket = filepath.Join(s.dir, "authority"), filepath.Join(s.dir, "admin.sock")
	if s.url != "" {
		c.URL, c.Names = s.url, []string{"127.0.0.1"}
	}
	return authority.Options{
		Config: c, PublicURL: "https://rx.lab:8443", Root: s.root, FS: s.fs, Now: s.clock.now,
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func (s *harness) start() {
	s.t.Helper()
	o := s.options()
	a, err := authority.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	s.auth, s.ask = a, authority.NewClient(o.Config.Socket)
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, a.Close()); err != nil {
			s.t.Error(err)
		}
	})
}

// addr returns where the authority answers.
func (s *harness) addr() string {
	if s.at != nil {
		return *s.at.Load()
	}
	return s.auth.Addr().String()
}

func (s *harness) path(name string) string { return filepath.Join(s.dir, "authority", name) }

func (s *harness) roots() *x509.CertPool {
	s.t.Helper()
	p, err := pki.NewBundle(disk.OS{}, s.path(authority.TrustFile)).Get()
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *harness) token(h ident.Host) wire.Token {
	s.t.Helper()
	made, err := s.ask.CreateTokens(s.t.Context(), authority.TokenRequest{Hosts: []ident.Host{h}})
	if err != nil {
		s.t.Fatal(err)
	}
	tok, err := wire.ParseToken(made[0].Token)
	if err != nil {
		s.t.Fatal(err)
	}
	return tok
}

func (s *harness) post(h ident.Host, req wire.CertRequest) (wire.CertAnswer, error) {
	s.t.Helper()
	b, err := json.Marshal(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.postRaw(h, b)
}

func (s *harness) postRaw(h ident.Host, b []byte) (wire.CertAnswer, error) {
	s.t.Helper()
	return s.postTo(h, "", b)
}

func (s *harness) postTo(h ident.Host, suffix string, b []byte) (wire.CertAnswer, error) {
	s.t.Helper()
	var out wire.CertAnswer
	conf := pki.ClientTLS(s.roots(), nil)
	conf.Time = s.clock.now
	cl := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	res, err := cl.Post("https://"+s.addr()+wire.CertPrefix+string(h)+suffix, wire.ContentTypeJSON, bytes.NewReader(b))
	if err != nil {
		return out, err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := ident.ParseHost(string(h)); err == nil {
		documented(s.t, res)
	}
	if res.StatusCode != http.StatusOK {
		p, err := wire.ReadLocalProblem(res)
		if err != nil {
			s.t.Fatal(err)
		}
		return out, p
	}
	return out, json.NewDecoder(res.Body).Decode(&out)
}

func (s *harness) csr(h ident.Host) string {
	s.t.Helper()
	k, err := pki.NewKey()
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := pki.NewCSR(k, h)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *harness) host(h ident.Host) roster.Host {
	s.t.Helper()
	got, _, err := local.Roster(disk.OS{}, filepath.Join(s.dir, "authority")).Host(h)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

func serial(t testing.TB, a wire.CertAnswer) string {
	t.Helper()
	c, err := pki.ParseCerts([]byte(a.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	return pki.Serial(c[0])
}

func wantKind(t testing.TB, err error, k wire.Kind) {
	t.Helper()
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok || p.Kind != k {
		t.Errorf("error is %v, want kind %q", err, k)
	}
}

func lines(t testing.TB, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

func TestAuthority_EnrolsThenRenews(t *testing.T) {
	s := newHarness(t)
	tok, csr := s.token("lab-01"), s.csr("lab-01")
	if !tok.Pinned(pki.PinOf(mustCerts(t, s.path(authority.CAFile))[0])) {
		t.Error("the token's pin is not that of the CA")
	}
	first, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseCerts([]byte(first.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := pki.VerifyClient(chain, s.roots(), s.clock.now()); err != nil || h != "lab-01" {
		t.Errorf("VerifyClient = %q, %v", h, err)
	}
	if first.Bearer == "" || s.host("lab-01").Bearer == ident.Digest(first.Bearer) {
		t.Error("want a bearer, stored as a digest")
	}
	s.clock.pass(100 * 24 * time.Hour) // long after expiry
	s.stop()
	s.start()
	second, err := s.post("lab-01", wire.CertRequest{CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	h := s.host("lab-01")
	if second.Bearer != "" || !h.Valid(serial(t, second)) || h.Valid(serial(t, first)) {
		t.Error("want no bearer at renewal, the new serial valid, and the expired one removed")
	}
	if n := lines(t, s.path(authority.IssuedFile)); n != 2 {
		t.Errorf("issued.jsonl has %d rows, want 2", n)
	}
	for _, name := range []string{local.RosterFile, authority.TokensFile, authority.IssuedFile} {
		b, err := os.ReadFile(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(tok.Secret)) || bytes.Contains(b, []byte(first.Bearer)) {
			t.Errorf("%s holds a secret", name)
		}
	}
	if out := s.log.String(); strings.Contains(out, tok.Secret) || strings.Contains(out, first.Bearer) {
		t.Error("the log holds a secret")
	}
}

func mustCerts(t testing.TB, path string) []*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.ParseCerts(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAuthority_LostAnswerCostsNothing(t *testing.T) {
	s := newHarness(t)
	tok, csr := s.token("lab-01"), s.csr("lab-01")
	var answers []wire.CertAnswer
	for range 3 {
		a, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret})
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
		s.stop()
		s.start() // and it is remembered over a restart
	}
	h := s.host("lab-01")
	last := answers[2]
	if h.Bearer != digestOf(last.Bearer) || !h.Valid(serial(t, last)) {
		t.Error("the last answer does not work")
	}
	if h.Valid(serial(t, answers[0])) || h.Bearer == digestOf(answers[0].Bearer) {
		t.Error("an answer that was replaced still works")
	}
}

func TestAuthority_ThiefOfAUsedTokenIsRefusedAndRecordedOnceAnHour(t *testing.T) {
	s := newHarness(t)
	tok := s.token("lab-01")
	mine := s.csr("lab-01")
	if _, err := s.post("lab-01", wire.CertRequest{CSR: mine, Token: tok.Secret}); err != nil {
		t.Fatal(err)
	}
	before := lines(t, s.path(local.RosterFile))
	for range 3 {
		_, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: tok.Secret})
		wantKind(t, err, wire.TokenUsed)
	}
	h := s.host("lab-01")
	if h.Misused.IsZero() || h.MisusedFrom != "127.0.0.1" || lines(t, s.path(local.RosterFile)) != before+1 {
		t.Errorf("the roster has %+v after %d new rows, want one misuse from 127.0.0.1", h, lines(t, s.path(local.RosterFile))-before)
	}
	if !strings.Contains(s.log.String(), "level=WARN msg=\"join token used with another key\"") {
		t.Error("no warning was logged")
	}
	if _, err := s.post("lab-01", wire.CertRequest{CSR: mine, Token: tok.Secret}); err != nil {
		t.Errorf("the bound key is rejected after the misuse: %v", err)
	}
}

func TestAuthority_Refusals(t *testing.T) {
	s := newHarness(t)
	tok, other := s.token("lab-01"), s.token("lab-02")
	csr := s.csr("lab-01")
	garbage := strings.Repeat("A", len(tok.Secret))
	for _, c := range []struct {
		name string
		host ident.Host
		req  wire.CertRequest
		want wire.Kind
	}{
		{"no such token", "lab-01", wire.CertRequest{CSR: csr, Token: garbage}, wire.BadToken},
		{"other host's token", "lab-01", wire.CertRequest{CSR: csr, Token: other.Secret}, wire.BadToken},
		{"unknown host", "lab-99", wire.CertRequest{CSR: s.csr("lab-99"), Token: tok.Secret}, wire.BadToken},
		{"the hash in place of the secret", "lab-01", wire.CertRequest{CSR: csr, Token: string(digestOf(tok.Secret))}, wire.BadToken},
		{"request for another host", "lab-01", wire.CertRequest{CSR: s.csr("lab-02"), Token: tok.Secret}, wire.BadCSR},
		{"no request", "lab-01", wire.CertRequest{Token: tok.Secret}, wire.BadCSR},
		{"a key never issued to", "lab-01", wire.CertRequest{CSR: csr}, wire.NotThisKey},
		{"a key for an unknown host", "lab-99", wire.CertRequest{CSR: s.csr("lab-99")}, wire.NotThisKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.post(c.host, c.req)
			wantKind(t, err, c.want)
		})
	}
	_, err := s.postRaw("lab-01", []byte("no JSON"))
	wantKind(t, err, wire.Malformed)
	_, err = s.postRaw("lab-01", bytes.Repeat([]byte(" "), 1<<20))
	wantKind(t, err, wire.TooLarge)
	_, err = s.postRaw("Lab.01", []byte("{}"))
	wantKind(t, err, wire.Malformed)
	if n := lines(t, s.path(authority.IssuedFile)); n != 0 {
		t.Errorf("%d certificates were issued", n)
	}
	// No rejected request has bound the token.
	if _, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret}); err != nil {
		t.Error(err)
	}
}

func TestAuthority_TokensEnd(t *testing.T) {
	s := newHarness(t)
	old := s.token("lab-01")
	late := s.token("lab-02")
	newer := s.token("lab-01")
	csr := s.csr("lab-01")
	_, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: old.Secret})
	wantKind(t, err, wire.BadToken) // a newer one voids it
	if _, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: newer.Secret}); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(73 * time.Hour)
	_, err = s.post("lab-02", wire.CertRequest{CSR: s.csr("lab-02"), Token: late.Secret})
	wantKind(t, err, wire.TokenExpired)
	revoked := s.token("lab-03")
	if err := s.ask.RevokeToken(t.Context(), "lab-03"); err != nil {
		t.Fatal(err)
	}
	_, err = s.post("lab-03", wire.CertRequest{CSR: s.csr("lab-03"), Token: revoked.Secret})
	wantKind(t, err, wire.BadToken)
	all, err := s.ask.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, i := range all {
		states = append(states, string(i.Host)+" "+i.State)
	}
	if got := strings.Join(states, ", "); got != "lab-01 revoked, lab-01 used, lab-02 expired, lab-03 revoked" {
		t.Errorf("tokens: %s", got)
	}
}

func TestAuthority_DecommissionAndReadmit(t *testing.T) {
	s := newHarness(t)
	ctx := t.Context()
	tok, csr := s.token("lab-01"), s.csr("lab-01")
	if _, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret}); err != nil {
		t.Fatal(err)
	}
	if err := s.ask.Decommission(ctx, "lab-01"); err != nil {
		t.Fatal(err)
	}
	_, err := s.post("lab-01", wire.CertRequest{CSR: csr})
	wantKind(t, err, wire.Decommission)
	_, err = s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret})
	wantKind(t, err, wire.Decommission) // a new token alone would not help
	_, err = s.ask.CreateTokens(ctx, authority.TokenRequest{Hosts: []ident.Host{"lab-01", "lab-02"}})
	if p, ok := errors.AsType[*wire.Problem](err); !ok || p.Fix != "sudo cis490 host readmit lab-01 && sudo cis490 token create lab-01" {
		t.Errorf("a token for a decommissioned host: %v", err)
	}
	if got := s.host("lab-02"); got.Name != "" {
		t.Error("a refused request for two hosts made one of them")
	}
	if err := s.ask.Readmit(ctx, "lab-01"); err != nil {
		t.Fatal(err)
	}
	_, err = s.post("lab-01", wire.CertRequest{CSR: csr})
	wantKind(t, err, wire.NotThisKey) // readmitted needs a new token
	if _, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: s.token("lab-01").Secret}); err != nil {
		t.Error(err)
	}
	if err := s.ask.Readmit(ctx, "lab-01"); err == nil {
		t.Error("an active host was readmitted")
	}
	if err := s.ask.Decommission(ctx, "lab-77"); err == nil {
		t.Error("an unknown host was decommissioned")
	}
}

func TestAuthority_ReplacedHostGoesWhenTheNewOneEnrols(t *testing.T) {
	s := newHarness(t)
	if _, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: s.token("lab-01").Secret}); err != nil {
		t.Fatal(err)
	}
	made, err := s.ask.CreateTokens(t.Context(), authority.TokenRequest{Hosts: []ident.Host{"lab-02"}, Replaces: "lab-01"})
	if err != nil {
		t.Fatal(err)
	}
	if h := s.host("lab-01"); h.State != roster.Active {
		t.Errorf("the old host is %s before the new one has enrolled", h.State)
	}
	tok, err := wire.ParseToken(made[0].Token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.post("lab-02", wire.CertRequest{CSR: s.csr("lab-02"), Token: tok.Secret}); err != nil {
		t.Fatal(err)
	}
	if h := s.host("lab-01"); h.State != roster.Gone || h.Other != "lab-02" {
		t.Errorf("the old host is %+v", h)
	}
}

func TestAuthority_FailuresAreLimitedSuccessesNever(t *testing.T) {
	s := newHarness(t)
	tok, csr := s.token("lab-01"), s.csr("lab-01")
	bad := wire.CertRequest{CSR: csr, Token: "wrong"}
	var busy int
	for range 40 {
		_, err := s.post("lab-01", bad)
		if p, ok := errors.AsType[*wire.Problem](err); ok && p.Kind == wire.Busy {
			busy++
		}
	}
	if busy < 15 {
		t.Errorf("%d of 40 failures were rate-limited", busy)
	}
	if n := strings.Count(s.log.String(), "rejected certificate request"); n > 25 {
		t.Errorf("an unknown client caused %d lines in the log", n)
	}
	for range 10 {
		if _, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret}); err != nil {
			t.Fatalf("a valid request was rate-limited: %v", err)
		}
	}
}

func TestAuthority_ManyAtOnce(t *testing.T) {
	s := newHarness(t)
	var hosts []ident.Host
	for _, c := range "abcdefghij" {
		hosts = append(hosts, ident.Host("lab-"+string(c)))
	}
	made, err := s.ask.CreateTokens(t.Context(), authority.TokenRequest{Hosts: hosts})
	if err != nil || len(made) != len(hosts) {
		t.Fatalf("%d tokens, %v", len(made), err)
	}
	var wg sync.WaitGroup
	for _, m := range made {
		tok, err := wire.ParseToken(m.Token)
		if err != nil {
			t.Fatal(err)
		}
		csr := s.csr(m.Host)
		wg.Go(func() {
			a, err := s.post(m.Host, wire.CertRequest{CSR: csr, Token: tok.Secret})
			if err != nil || a.Bearer == "" {
				t.Errorf("%s: %v", m.Host, err)
			}
		})
	}
	wg.Wait()
	all, err := s.ask.Hosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if h.State != roster.Active {
			t.Errorf("%s is %s", h.Name, h.State)
		}
	}
}

func TestAuthority_FilesAndModes(t *testing.T) {
	s := newHarness(t)
	want := map[string]os.FileMode{
		authority.KeyFile: 0o600, authority.ListenerFile: 0o600, authority.TokensFile: 0o600,
		authority.ReceiversFile: 0o600,
		authority.ServerFile:    0o640, authority.IssuedFile: 0o640, local.RosterFile: 0o640,
		authority.CAFile: 0o644, authority.TrustFile: 0o644,
		disk.LockName: 0o600, // or serve, which may list the folder, could keep bootstrap from starting
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode, ok := want[e.Name()]; !ok || fi.Mode() != mode {
			t.Errorf("%s has mode %v, want %v (known: %v)", e.Name(), fi.Mode(), mode, ok)
		}
		delete(want, e.Name())
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	pair, err := tls.LoadX509KeyPair(s.path(authority.ServerFile), s.path(authority.ServerFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rx.lab", "127.0.0.1"} {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}
