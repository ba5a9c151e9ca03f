package server_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cis490/internal/pki"
	"cis490/internal/wire"
)

// TestProxy_VerifiesTheHeaderItself: behind a proxy on the Unix socket the
// certificate comes in a header, and is verified as one of TLS is.
func TestProxy_VerifiesTheHeaderItself(t *testing.T) { onEach(t, proxyVerifiesTheHeader) }

func proxyVerifiesTheHeader(t *testing.T, on func(*harness)) {
	dir := t.TempDir()
	r := newHarness(t, on, func(r *harness) {
		r.config.TLS.Mode, r.config.TLS.Socket = "proxy", filepath.Join(dir, "http.sock")
		must(t, os.Remove(filepath.Join(r.config.Authority.Dir, "server.pem"))) // the proxy has its own
	})
	if fi, err := os.Stat(r.config.TLS.Socket); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("socket is %v, %v", fi, err)
	}
	a := r.enrol("lab-a")
	evil, err := pki.NewCA(time.Now())
	must(t, err)
	forged := r.hostWith(evil, "lab-a", time.Now(), time.Hour)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.config.TLS.Socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	a.client = &http.Client{Transport: tr}

	base64Of := func(h *host) string { return base64.StdEncoding.EncodeToString(h.pair.Certificate[0]) }
	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.pair.Certificate[0]}))
	for _, s := range []struct {
		name   string
		header []string
		status int
		kind   wire.Kind
	}{
		{"none", nil, 401, wire.Unauthorized},
		{"empty", []string{""}, 401, wire.Unauthorized},
		{"garbage", []string{"zzz"}, 401, wire.Unauthorized},
		{"forged", []string{base64Of(forged)}, 401, wire.Unauthorized},
		{"two", []string{base64Of(a), base64Of(a)}, 401, wire.Unauthorized},
		{"of Caddy", []string{base64Of(a)}, 201, ""},
		{"of RFC 9440", []string{":" + base64Of(a) + ":"}, 200, ""},
		{"of nginx", []string{url.PathEscape(block)}, 200, ""},
	} {
		req := a.request(ep1, "one", func(r *http.Request) {
			r.URL.Scheme, r.URL.Host, r.URL.Path = "http", "receiver", wire.EpisodePath("lab-a", ep1)
			r.Header["X-Client-Cert"] = s.header
		})
		if status, kind, detail := a.do(req); status != s.status || kind != s.kind {
			t.Errorf("%s: %d %s %s, want %d %s", s.name, status, kind, detail, s.status, s.kind)
		}
	}
	if len(r.rows()) != 1 {
		t.Errorf("%d rows", len(r.rows()))
	}
}
