package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
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

	"cis490/internal/apidoc"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/cluster"
	"cis490/receiver/gate"
	"cis490/receiver/local"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg"
	"cis490/receiver/roster"
	"cis490/receiver/server"
	"cis490/receiver/store"
)

const (
	own   = ident.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	other = ident.Commit("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	ep1   = ident.EpisodeID("01ARZ3NDEKTSV4RRFFQ69G5FA1")
	ep2   = ident.EpisodeID("01ARZ3NDEKTSV4RRFFQ69G5FA2")
	ep3   = ident.EpisodeID("01ARZ3NDEKTSV4RRFFQ69G5FA3")
)

// large is a body that does not arrive at once; all its bytes are the same.
var large = strings.Repeat("l", 100<<10)

// harness is a receiver with an authority's files, which the test writes.
type harness struct {
	t      *testing.T
	dir    string
	config config.Receiver
	// catalogue is its path; empty: none.
	catalogue string
	ca        pki.Issuer
	fs        disk.FS
	bucket    *objects.Bucket // nil: tarballs are in the data folder
	store     *s3test.Server  // of the bucket, among several receivers
	database  string          // file with the URL; empty: rows are in the data folder
	server    *server.Server
	mode      mode
	log       *lines
	stop      func()
	now       func() time.Time
}

// mode is how clients reach the receiver.
type mode string

// The ways: its own TLS, and the Unix socket behind a proxy.
const (
	direct   mode = ""
	socketed mode = "proxy"
)

// over makes a harness with clients of that kind.
func over(m mode) func(*harness) {
	return func(r *harness) {
		r.mode = m
		if m == socketed {
			dir, err := os.MkdirTemp("", "rx") // a socket's path is short
			must(r.t, err)
			r.t.Cleanup(func() { _ = os.RemoveAll(dir) })
			r.config.TLS.Mode, r.config.TLS.Socket = "proxy", filepath.Join(dir, "http.sock")
		}
	}
}

// proxy is what a proxy does: it passes the client's certificate on, and nothing
// else in that header.
type proxy struct {
	*http.Transport
	pair *tls.Certificate
}

// RoundTrip sends a request with the certificate in its header.
func (p proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("X-Client-Cert")
	if p.pair != nil {
		r.Header.Set("X-Client-Cert", base64.StdEncoding.EncodeToString(p.pair.Certificate[0]))
	}
	return p.Transport.RoundTrip(r)
}

// lines is a log that a test can look into.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newHarness(t *testing.T, change ...func(*harness)) *harness {
	t.Helper()
	dir := t.TempDir()
	c := config.DefaultReceiver()
	c.PublicURL, c.Listen = "https://localhost:8443", "127.0.0.1:0"
	c.DataDir, c.Operator = filepath.Join(dir, "data"), filepath.Join(dir, "operator")
	c.Authority.Dir = filepath.Join(dir, "authority")
	c.Limits.EpisodeSize, c.Limits.DiskReserve = 1<<20, 1<<20
	r := &harness{t: t, dir: dir, config: c, fs: disk.OS{}, log: &lines{}, now: time.Now}
	must(t, os.Mkdir(c.Authority.Dir, 0o755))
	r.write("operator", "s3cret\n")
	r.write("authority/"+local.RosterFile, "") // an authority without hosts
	r.gate("")
	var err error
	r.ca, err = pki.NewCA(time.Now())
	must(t, err)
	r.write("authority/trust.pem", string(pki.EncodeCerts(r.ca.Cert)))
	r.serverPair()
	for _, f := range change {
		f(r)
	}
	r.start()
	return r
}

func (r *harness) start() {
	r.t.Helper()
	back := r.backend()
	others := cluster.New(back.Peers, r.logger())
	s, err := server.New(server.Options{
		Config: r.config, Admin: local.AdminSocket(r.config.DataDir), Listen: local.Listen(r.fs), Catalogue: r.catalogue,
		Gate: gate.New(
			gate.Options{Own: own, FS: r.fs, Path: filepath.Join(r.dir, "receiver.toml"), Others: others.Rules, Log: r.logger()},
		),
		Backend: back, Cluster: others, Credentials: local.Credentials(r.fs, r.config),
		Build:  version.Info{Version: "1.0.0", Commit: own},
		Roster: local.Roster(disk.OS{}, r.config.Authority.Dir), Now: r.now,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		r.t.Fatalf("start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.server = s
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
	r.t.Cleanup(r.stop)
}

func (r *harness) backend() receiver.Backend {
	base := local.Open(local.Options{
		FS: r.fs, Dir: r.config.DataDir, Known: store.KnownDir(filepath.Join(r.dir, "receiver.toml")), Now: r.now,
		Reserve: int64(r.config.Limits.DiskReserve), Log: r.logger(),
	})
	if r.database != "" {
		base = pg.Open(pg.Options{Base: base, FS: r.fs, Dir: r.config.DataDir, URLFile: r.database, Log: r.logger()})
	}
	return r.on(base)
}

func (r *harness) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r.log, nil)) }

// healthy is the backend on the machine's own disk.
func (r *harness) healthy() receiver.Backend {
	return local.Open(local.Options{FS: disk.OS{}, Dir: r.config.DataDir})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write puts a file in place by rename, as the authority does.
func (r *harness) write(name, content string) {
	r.t.Helper()
	must(r.t, disk.ReplaceBytes(disk.OS{}, filepath.Join(r.dir, name), 0o600, []byte(content)))
}

func (r *harness) gate(table string) {
	r.t.Helper()
	r.write("receiver.toml", "public_url = \"https://localhost:8443\"\n[gate]\n"+table)
}

func (r *harness) serverPair() {
	r.t.Helper()
	k, err := pki.NewKey()
	must(r.t, err)
	cert, err := r.ca.Server(k.Public(), []string{"localhost", "127.0.0.1"}, time.Now(), time.Hour)
	must(r.t, err)
	pem, err := pki.EncodeKey(k)
	must(r.t, err)
	r.write("authority/server.pem", string(pki.EncodeCerts(cert))+string(pem))
}

// event appends to the roster.
func (r *harness) event(e roster.Event) {
	r.t.Helper()
	e.At = time.Now().UTC()
	b, err := json.Marshal(e)
	must(r.t, err)
	f, err := os.OpenFile(filepath.Join(r.config.Authority.Dir, local.RosterFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(r.t, err)
	_, err = f.Write(append(b, '\n'))
	must(r.t, err)
	must(r.t, f.Close())
}

// host is a lab host's credentials and client.
type host struct {
	r      *harness
	name   ident.Host
	bearer string
	serial string
	pair   *tls.Certificate
	client *http.Client
}

// hostWith returns a client with a certificate of the given CA, and no entry in the
// roster.
func (r *harness) hostWith(ca pki.Issuer, name ident.Host, issued time.Time, life time.Duration) *host {
	r.t.Helper()
	k, err := pki.NewKey()
	must(r.t, err)
	cert, err := ca.Client(k.Public(), name, issued, life)
	must(r.t, err)
	h := &host{
		r: r, name: name, bearer: "bearer-of-" + string(name), serial: pki.Serial(cert),
		pair: &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: k, Leaf: cert},
	}
	h.client = r.clientOf(h.pair)
	return h
}

func (r *harness) clientOf(pair *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(r.ca.Cert)
	tr := &http.Transport{TLSClientConfig: pki.ClientTLS(pool, pair), ExpectContinueTimeout: 5 * time.Second}
	r.t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	if r.mode == socketed {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", r.config.TLS.Socket)
		}
		c.Transport = proxy{tr, pair}
	}
	return c
}

// enrol makes a host that the roster knows.
func (r *harness) enrol(name ident.Host) *host {
	r.t.Helper()
	h := r.hostWith(r.ca, name, time.Now(), 24*time.Hour)
	h.enrolled()
	return h
}

func (h *host) enrolled() {
	h.r.event(
		roster.Event{
			Host:    h.name,
			Event:   roster.Enrolled,
			Serial:  h.serial,
			Bearer:  digestOf([]byte(h.bearer)),
			Expires: time.Now().Add(24 * time.Hour),
		},
	)
}

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

func (r *harness) url(path string) string {
	if r.mode == socketed {
		return "http://receiver" + path
	}
	return "https://" + r.server.Addr().String() + path
}

// document is docs/openapi.yaml, which every answer is held against.
var document = sync.OnceValues(func() (*apidoc.Doc, error) { return apidoc.Open("../../docs/openapi.yaml") })

// request is a PUT as a host sends it; change spoils it.
func (h *host) request(id ident.EpisodeID, content string, change ...func(*http.Request)) *http.Request {
	h.r.t.Helper()
	req, err := http.NewRequestWithContext(
		context.Background(),
		http.MethodPut,
		h.r.url(wire.EpisodePath(h.name, id)),
		strings.NewReader(content),
	)
	must(h.r.t, err)
	for k, v := range map[string]string{
		"Content-Type": wire.ContentTypeEpisode, wire.HeaderDigest: string(digestOf([]byte(content))), wire.HeaderSchema: "1",
		wire.HeaderHost: string(h.name), wire.HeaderEpisode: string(id), wire.HeaderCommit: string(own),
		"Authorization": "Bearer " + h.bearer, "Expect": "100-continue",
	} {
		req.Header.Set(k, v)
	}
	for _, f := range change {
		f(req)
	}
	return req
}

// do sends a request and returns status and kind of refusal.
func (h *host) do(req *http.Request) (int, wire.Kind, string) {
	h.r.t.Helper()
	res, err := h.client.Do(req)
	if err != nil {
		h.r.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer func() { _ = res.Body.Close() }()
	documented := h.r.documented(req, res)
	if res.StatusCode >= 400 {
		p, err := wire.ReadLocalProblem(res)
		if err != nil {
			h.r.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
		}
		if p.Fix == "" || p.Title == "" {
			h.r.t.Errorf("problem %s has no fix or title", p.Kind)
		}
		// Unknown routes are not in the document.
		if documented != nil && p.Kind != wire.BadMethod && req.URL.Opaque == "" && !strings.HasPrefix(p.Detail, "path ") {
			h.r.t.Error(documented)
		}
		return res.StatusCode, p.Kind, p.Detail
	}
	if documented != nil {
		h.r.t.Error(documented)
	}
	b, err := io.ReadAll(res.Body)
	must(h.r.t, err)
	return res.StatusCode, "", string(b)
}

// documented holds an answer against the API's document.
func (r *harness) documented(req *http.Request, res *http.Response) error {
	r.t.Helper()
	d, err := document()
	must(r.t, err)
	return d.Check(req, res)
}

// below returns the files in a folder of the data folder, relative to the latter.
// The receiver removes staged files and the folder of its test of the disk meanwhile.
func (r *harness) below(dir string) (all []string) {
	r.t.Helper()
	root := filepath.Join(r.config.DataDir, dir)
	must(r.t, filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
		if p != root && errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && !e.IsDir() && e.Name() != "probe.partial" && e.Name() != disk.LockName { // serve's look at the disk; archive's lock
			rel, _ := filepath.Rel(r.config.DataDir, p)
			all = append(all, rel)
		}
		return err
	}))
	return all
}

func (r *harness) rows() []receiver.Entry {
	r.t.Helper()
	var rows []receiver.Entry
	for row, err := range r.backend().Index.Since(time.Time{}) {
		must(r.t, err)
		rows = append(rows, row)
	}
	return rows
}

func caPEM(r *harness) string { return string(pki.EncodeCerts(r.ca.Cert)) }
