package update_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cis490/install/update"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/wire"
)

// liar is a receiver that can send every wrong answer that a network can.
type liar struct {
	r     *harness
	offer func(w http.ResponseWriter, req *http.Request) bool // true: it answered
	blob  func(w http.ResponseWriter, req *http.Request, content []byte) bool
	asked []string
}

func (l *liar) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	l.asked = append(l.asked, req.URL.Path+" "+req.Header.Get("Range"))
	if d, ok := strings.CutPrefix(req.URL.Path, wire.ReleaseBlobPrefix); ok {
		content := l.r.blobs[ident.Digest(d)]
		if l.blob == nil || !l.blob(w, req, content) {
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
		}
		return
	}
	if l.offer == nil || !l.offer(w, req) {
		_ = json.NewEncoder(w).Encode(l.r.offer)
	}
}

// remote makes a harness whose source is a server, and whose binaries are applied by
// selfupdate.
func remote(t *testing.T) (*harness, *liar, *httptest.Server) {
	t.Helper()
	r := onDisk(t)
	l := &liar{r: r}
	s := httptest.NewUnstartedServer(l)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	r.prepare = (*update.System)(nil).Prepare
	r.source = &update.Remote{
		URL: s.URL, Host: "lab-01", OS: "linux", Arch: "amd64", Agent: "test", Idle: 2 * time.Second,
		Roots: func() (*x509.CertPool, error) {
			pool := x509.NewCertPool()
			pool.AddCert(s.Certificate())
			return pool, nil
		},
		Log: slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	return r, l, s
}

// TestAttack: whatever a receiver, or someone in its place, offers, an artifact without a
// signature of a trusted key is refused, the reason is logged, and nothing is changed.
func TestAttack(t *testing.T) {
	rewrite := func(f func([]byte) []byte) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
			_, _ = w.Write(f(b))
			return true
		}
	}
	for name, c := range map[string]struct {
		attack func(t *testing.T, r *harness, l *liar)
		why    string
	}{
		"wrong key": {func(t *testing.T, r *harness, _ *liar) {
			k, _, err := manifest.NewKey()
			must(t, err)
			r.publishBy(k, "v2", 2)
		}, "no trusted key"},
		"tampered manifest": {func(_ *testing.T, r *harness, _ *liar) {
			r.offer.Manifest = strings.Replace(r.offer.Manifest, `"seq": 2`, `"seq": 3`, 1)
		}, "no trusted key"},
		"tampered binary": {func(_ *testing.T, _ *harness, l *liar) {
			l.blob = rewrite(func(b []byte) []byte { return append([]byte("X"), b[1:]...) })
		}, "sha256"},
		"other product": {func(_ *testing.T, r *harness, _ *liar) {
			// Signed by our key, because one key may sign several products.
			r.offer = wire.Offer{Manifest: strings.Replace(r.offer.Manifest, `"cis490"`, `"other1"`, 1)}
			r.offer.Signature = r.signRaw(r.offer.Manifest)
		}, `product is "other1"`},
		"oversize": {func(_ *testing.T, r *harness, _ *liar) {
			r.offer.Manifest = strings.Replace(r.offer.Manifest, `"size": 8`, `"size": 99999999999`, 1)
			r.offer.Signature = r.signRaw(r.offer.Manifest)
		}, "99999999999 bytes"},
		"truncated": {func(_ *testing.T, _ *harness, l *liar) {
			l.blob = rewrite(func(b []byte) []byte { return b[:3] })
		}, "interrupted after 3 of 8"},
		"endless body": {func(_ *testing.T, _ *harness, l *liar) {
			l.blob = func(w http.ResponseWriter, req *http.Request, _ []byte) bool {
				for req.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						break
					}
				}
				return true
			}
		}, "exceeds the 8 bytes"},
		"endless offer": {func(_ *testing.T, _ *harness, l *liar) {
			l.offer = func(w http.ResponseWriter, req *http.Request) bool {
				for req.Context().Err() == nil {
					if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
						break
					}
				}
				return true
			}
		}, "not a release offer"},
		"silence": {func(_ *testing.T, _ *harness, l *liar) {
			l.blob = func(_ http.ResponseWriter, req *http.Request, _ []byte) bool {
				select {
				case <-req.Context().Done():
				case <-time.After(10 * time.Second):
				}
				return true
			}
		}, "no byte for 2s"},
		"mixed artifacts": {func(_ *testing.T, r *harness, _ *liar) {
			r.publish("v2", 2, func(m *manifest.Manifest) { m.Artifacts[0].Blob = r.blob("v0 amd64") })
		}, "it reports version v0"},
		"another arch's binary": {func(_ *testing.T, r *harness, _ *liar) {
			r.publish("v2", 2, func(m *manifest.Manifest) { m.Artifacts[0].Blob = r.blob("v2 arm64") })
		}, "exec format error"},
		"no binary for this arch": {func(_ *testing.T, r *harness, _ *liar) {
			r.publish("v2", 2, func(m *manifest.Manifest) { m.Artifacts[0].Arch = "arm64" })
		}, "no binary for linux/amd64"},
		"a captive portal": {func(_ *testing.T, _ *harness, l *liar) {
			l.offer = func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = io.WriteString(w, "<html>log in")
				return true
			}
		}, "not a release offer"},
		"a redirect": {func(_ *testing.T, _ *harness, l *liar) {
			l.offer = func(w http.ResponseWriter, req *http.Request) bool {
				http.Redirect(w, req, "https://evil.example/", http.StatusFound)
				return true
			}
		}, "status 302"},
	} {
		t.Run(name, func(t *testing.T) {
			r, l, _ := remote(t)
			r.publish("v2", 2)
			c.attack(t, r, l)
			res := r.run()
			if !strings.Contains(res.Note+res.Status.Refused, c.why) {
				t.Errorf("%+v %+v, want …%s…", res, res.Status, c.why)
			}
			if res.Status.Refused != "" && !strings.Contains(r.log.String(), "level=ERROR") {
				t.Errorf("not logged:\n%s", r.log.String())
			}
			r.want("after", "v1", "v1")
			for _, v := range r.converged {
				if v != "v1" {
					t.Errorf("the install of %s ran", v)
				}
			}
			if got := r.identityOf("v2"); got != "" {
				t.Errorf("a binary was left: %q", got)
			}
		})
	}
}

// TestAttack_Replay: older seqs, a version rolled back here, and a retired key.
func TestAttack_Replay(t *testing.T) {
	r, _, _ := remote(t)
	r.publish("v1.5", 4)
	old := r.offer
	r.publish("v2", 5)
	for range 3 {
		r.run()
	}
	r.want("proven", "v2", "v2")
	r.offer = old
	if res := r.run(); !strings.Contains(res.Status.Refused, "seq 4, but 5 was seen") {
		t.Errorf("older seq: %+v", res.Status)
	}
	r.want("older seq", "v2", "v2")

	// An intended downgrade is a higher seq that names older binaries.
	r.publish("v1", 6)
	for range 3 {
		r.run()
	}
	r.want("meant", "v1", "v1")

	// Keys: the release names a next key; the next release is signed by it, and the old key
	// is retired.
	next, _, err := manifest.NewKey()
	must(t, err)
	r.publish("v3", 7, func(m *manifest.Manifest) { m.NextKey = next.Public().String() })
	for range 3 {
		r.run()
	}
	r.publishBy(next, "v4", 8)
	for range 3 {
		r.run()
	}
	r.want("signed by the next key", "v4", "v4")
	r.publish("v5", 9)
	if res := r.run(); !strings.Contains(res.Status.Refused, "no trusted key") {
		t.Errorf("retired key: %+v", res.Status)
	}
	r.want("retired key", "v4", "v4")
}

// TestRemote_WithoutAnythingToVerifyWith: a host that lost its CA certificate is still
// updated; the signature decides.
func TestRemote_WithoutAnythingToVerifyWith(t *testing.T) {
	for name, roots := range map[string]func() (*x509.CertPool, error){
		"no CA certificate": func() (*x509.CertPool, error) { return nil, errors.New("ca.crt: no such file") },
		"another CA":        func() (*x509.CertPool, error) { return x509.NewCertPool(), nil },
	} {
		r, _, s := remote(t)
		r.source = &update.Remote{
			URL: s.URL, Host: "lab-01", OS: "linux", Arch: "amd64", Idle: time.Second, Roots: roots,
			Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		}
		r.publish("v2", 2)
		r.run()
		r.want(name, "v2", "v1")
		if !strings.Contains(r.log.String(), "cannot verify the receiver's certificate") {
			t.Errorf("%s: not reported:\n%s", name, r.log.String())
		}
	}
}

// TestFetch_GoesOn: an interrupted transfer is resumed.
func TestFetch_GoesOn(t *testing.T) {
	r, l, s := remote(t)
	content := "v2 amd64"
	r.publish("v2", 2)
	cut := true
	l.blob = func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
		if !cut {
			return false
		}
		cut = false
		w.Header().Set("Content-Length", "8")
		_, _ = w.Write(b[:5])
		_ = http.NewResponseController(w).Flush()
		s.CloseClientConnections()
		return true
	}
	if res := r.run(); res.Did != update.Repaired {
		t.Fatalf("%+v", res)
	}
	r.now = r.now.Add(time.Hour)
	if res := r.run(); res.Did != update.Began {
		t.Fatalf("%+v\n%s", res, r.log.String())
	}
	r.want("after", "v2", "v1")
	if last := l.asked[len(l.asked)-1]; !strings.HasSuffix(last, "bytes=5-") {
		t.Errorf("asked %q for %q", l.asked, content)
	}
}

// TestFetch_Busy: a busy receiver is asked again when it says, also after many times; a
// release that cannot be fetched delays no other.
func TestFetch_Busy(t *testing.T) {
	r, l, _ := remote(t)
	r.publish("v2", 2)
	busy := true
	l.blob = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		if busy {
			p := wire.NewProblem(wire.Busy, "all places are taken")
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(p.Status)
			_ = json.NewEncoder(w).Encode(p)
		}
		return busy
	}
	for range 9 {
		if res := r.run(); res.Did != update.Repaired || !strings.Contains(res.Note, "all places are taken") {
			t.Fatalf("%+v", res)
		}
	}
	busy = false
	if res := r.run(); res.Did != update.Began {
		t.Errorf("5 minutes after it was busy: %+v\n%s", res, r.log.String())
	}
}

// TestFetch_Pauses: a release that cannot be fetched is requested less and less often, and
// delays no other.
func TestFetch_Pauses(t *testing.T) {
	r, l, _ := remote(t)
	r.publish("v2", 2)
	tries := 0
	l.blob = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		tries++
		_, _ = io.WriteString(w, "no such")
		return true
	}
	for range 24 * 12 { // a day
		r.run()
	}
	if tries < 7 || tries > 11 {
		t.Errorf("%d tries in a day", tries)
	}
	l.blob = nil
	r.publish("v3", 3)
	if res := r.run(); res.Did != update.Began || res.Version != "v3" {
		t.Errorf("the next release: %+v\n%s", res, r.log.String())
	}
}

// signRaw signs what package release would refuse: another tool with the same key can.
func (r *harness) signRaw(manifest string) string {
	r.t.Helper()
	return signRaw(r.t, r.key, manifest)
}

// identityOf returns the binary in a version's folder, "" if there is none.
func (r *harness) identityOf(folder string) string {
	b, err := disk.ReadFile(r.fs, r.path("versions", folder, "cis490"), 1<<20)
	if err != nil {
		return ""
	}
	return string(b)
}
