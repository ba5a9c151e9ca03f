package enroll_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

const secret = "the-right-token"

// peer is an authority in memory that follows the protocol unless a test makes it
// misbehave. It records every request.
type peer struct {
	t   testing.TB
	url string
	ca  pki.Issuer
	pin ident.Digest

	mu     sync.Mutex
	now    func() time.Time
	life   time.Duration
	got    []string                            // bodies
	bound  ident.Digest                        // the key that used the token first
	issued ident.Digest                        // the key last issued to
	bearer string                              // of the last enrollment
	serial string                              // of the last certificate
	count  int                                 // certificates issued
	lie    func(http.ResponseWriter, int) bool // answers in its place; gets the number of the request
	alter  func(*wire.CertAnswer)              // changes an answer
	keys   []string                            // release keys in its health answer

	impostor *wire.Problem // answers in place of the roots

	file       string // with the server's certificate
	serverLife time.Duration
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	p := &peer{t: t, now: time.Now, life: time.Hour, serverLife: time.Hour, file: filepath.Join(t.TempDir(), "server.pem")}
	var err error
	if p.ca, err = pki.NewCA(time.Now()); err != nil {
		t.Fatal(err)
	}
	p.pin = pki.PinOf(p.ca.Cert)
	p.certify()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(p.serve), TLSConfig: pki.ServerTLS(pki.NewPair(disk.OS{}, p.file)),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	p.url = "https://" + l.Addr().String()
	return p
}

// certify gives the server a certificate by its present clock.
func (p *peer) certify() {
	p.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		p.t.Fatal(err)
	}
	cert, err := p.ca.Server(key.Public(), []string{"127.0.0.1"}, p.now(), p.serverLife)
	if err != nil {
		p.t.Fatal(err)
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	b := append(pki.EncodeCerts(cert), private...)
	if err := disk.ReplaceBytes(disk.OS{}, p.file, 0o600, b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", p.now().UTC().Format(http.TimeFormat))
	if r.URL.Path == wire.CAPath {
		if p.impostor != nil {
			w.Header().Set("Content-Type", wire.ContentTypeProblem)
			w.WriteHeader(p.impostor.Status)
			_ = json.NewEncoder(w).Encode(p.impostor)
			return
		}
		_, _ = w.Write(pki.EncodeCerts(p.ca.Cert))
		return
	}
	if r.URL.Path == wire.AuthorityHealthPath {
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = json.NewEncoder(w).Encode(wire.AuthorityHealth{Status: "ok", ReleaseKeys: p.keys})
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, string(body))
	if p.lie != nil && p.lie(w, len(p.got)) {
		return
	}
	var req wire.CertRequest
	if err := json.Unmarshal(body, &req); err != nil {
		p.refuse(w, wire.Malformed)
		return
	}
	h := ident.Host(strings.TrimPrefix(r.URL.Path, wire.CertPrefix))
	csr, err := pki.ParseCSR([]byte(req.CSR), h)
	if err != nil {
		p.refuse(w, wire.BadCSR)
		return
	}
	key, err := pki.KeyID(csr.PublicKey)
	if err != nil {
		p.refuse(w, wire.BadCSR)
		return
	}
	var out wire.CertAnswer
	switch {
	case req.Token == "" && key != p.issued:
		p.refuse(w, wire.NotThisKey)
		return
	case req.Token != "" && req.Token != tokenSecret(secret):
		p.refuse(w, wire.BadToken)
		return
	case req.Token != "" && p.bound != "" && p.bound != key:
		p.refuse(w, wire.TokenUsed)
		return
	case req.Token != "":
		p.bound = key
		p.bearer = "bearer-" + string(rune('a'+p.count%26))
		out.Bearer = p.bearer
	}
	cert, err := p.ca.Client(csr.PublicKey, h, p.now(), p.life)
	if err != nil {
		p.refuse(w, wire.Broken)
		return
	}
	p.count++
	p.issued, p.serial = key, pki.Serial(cert)
	out.Certificate, out.CA = string(pki.EncodeCerts(cert)), string(pki.EncodeCerts(p.ca.Cert))
	out.ReleaseKeys = []string{"key-one"}
	if p.alter != nil {
		p.alter(&out)
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (p *peer) refuse(w http.ResponseWriter, k wire.Kind) {
	a := wire.NewProblem(k, "test")
	w.Header().Set("Content-Type", wire.ContentTypeProblem)
	w.WriteHeader(a.Status)
	_ = json.NewEncoder(w).Encode(a)
}

// lab is one host's folder.
type lab struct {
	t     testing.TB
	dir   string
	peer  *peer
	fs    disk.FS
	now   func() time.Time
	probe func(context.Context, string) error
	roots []byte // built in

	patience time.Duration
}

func newLab(t testing.TB) *lab {
	return &lab{
		t: t, dir: t.TempDir(), peer: newPeer(t), fs: disk.OS{}, now: time.Now,
		probe: func(context.Context, string) error { return nil },
	}
}

// tokenSecret returns the secret of the token that a test calls name.
func tokenSecret(name string) string {
	sum := sha256.Sum256([]byte(name))
	return wire.NewTokenSecret([16]byte(sum[:16]))
}

func (l *lab) join(name string) {
	l.t.Helper()
	tok := wire.Token{Host: "lab-01", Receiver: "https://rx:1", Authority: l.peer.url, Pin: string(l.peer.pin), Secret: tokenSecret(name)}
	if err := os.WriteFile(filepath.Join(l.dir, enroll.TokenFile), []byte(tok.String()+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) enroller() *enroll.Enroller {
	l.t.Helper()
	e, err := enroll.New(enroll.Options{
		FS: l.fs, Dir: l.dir, Host: "lab-01", Authority: l.peer.url, Probe: l.probe, BuiltIn: l.roots, Now: l.now, Patience: l.patience,
		Log: slog.New(slog.NewTextHandler(l.t.Output(), nil)),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return e
}

func (l *lab) run(force bool) (enroll.Result, error) { return l.enroller().Run(l.t.Context(), force) }

func (l *lab) must(force bool, want enroll.Result) {
	l.t.Helper()
	if got, err := l.run(force); err != nil || got != want {
		l.t.Fatalf("run: %q, %v; want %q", got, err, want)
	}
}

func (l *lab) file(name string) string {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// works reports whether the credentials in the folder are the last that the peer issued.
func (l *lab) works() bool {
	l.t.Helper()
	pair, err := pki.NewPair(disk.OS{}, filepath.Join(l.dir, client.PairFile)).Get()
	if err != nil {
		return false
	}
	if _, err := pki.NewBundle(disk.OS{}, filepath.Join(l.dir, client.CAFile)).Get(); err != nil {
		return false
	}
	return pki.Serial(pair.Leaf) == l.peer.serial && strings.TrimSpace(l.file(client.BearerFile)) == l.peer.bearer
}

func (l *lab) names() string {
	l.t.Helper()
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != disk.LockName {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}
