package update_test

import (
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cis490/install/update"
	"cis490/internal/ident"
)

// TestRemote_ATrickleEnds: a byte just before each time limit does not count as progress.
func TestRemote_ATrickleEnds(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter) error{
		"interim answers": func(w http.ResponseWriter) error { w.WriteHeader(http.StatusProcessing); return nil },
		"bytes": func(w http.ResponseWriter) error {
			if _, err := io.WriteString(w, " "); err != nil {
				return err
			}
			return http.NewResponseController(w).Flush()
		},
	} {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(20 * time.Millisecond) // the slowness under test
			defer tick.Stop()
			for begin(w) == nil {
				select {
				case <-r.Context().Done():
					return
				case <-tick.C:
				}
			}
		}))
		t.Cleanup(s.Close)
		r := &update.Remote{
			URL: s.URL, Host: "lab-01", OS: "linux", Arch: "amd64", Idle: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
			Roots: func() (*x509.CertPool, error) {
				pool := x509.NewCertPool()
				pool.AddCert(s.Certificate())
				return pool, nil
			},
		}
		if _, _, err := r.Look(t.Context(), ""); err == nil {
			t.Errorf("%s: an offer", name)
		}
		body, err := r.Blob(t.Context(), ident.Digest(strings.Repeat("0", 64)), 0, true)
		if err == nil {
			_, err = io.Copy(io.Discard, body)
			_ = body.Close()
		}
		if err == nil {
			t.Errorf("%s: a blob", name)
		}
	}
}
