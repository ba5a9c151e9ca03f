package client_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/client/clienttest"
	"cis490/internal/config"
	"cis490/internal/wire"
)

// TestPing_EndlessAnswers: a small answer is bounded, whatever a peer keeps sending.
func TestPing_EndlessAnswers(t *testing.T) {
	slowly := func(r *http.Request, step func() error) {
		tick := time.NewTicker(20 * time.Millisecond) // the slowness under test
		defer tick.Stop()
		for step() == nil {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
		}
	}
	for name, lie := range map[string]func(http.ResponseWriter, *http.Request){
		"interim answers": func(w http.ResponseWriter, r *http.Request) {
			slowly(r, func() error { w.WriteHeader(http.StatusProcessing); return nil })
		},
		"a trickle": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", wire.ContentTypeJSON)
			slowly(r, func() error {
				_, err := io.WriteString(w, " ")
				return errors.Join(err, http.NewResponseController(w).Flush())
			})
		},
		"a refusal that trickles": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", wire.ContentTypeProblem)
			w.WriteHeader(http.StatusServiceUnavailable)
			slowly(r, func() error {
				_, err := io.WriteString(w, " ")
				return errors.Join(err, http.NewResponseController(w).Flush())
			})
		},
	} {
		_, c := start(t, func(r *clienttest.Receiver) {
			r.OnPing = func(w http.ResponseWriter, q *http.Request) bool { lie(w, q); return true }
		}, func(c *config.LabHost) { c.Ship.IdleTimeout = config.Duration(300 * time.Millisecond) })
		if _, err := c.Ping(t.Context(), wire.Ping{}); !errors.Is(err, client.ErrSilence) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPing_AbsurdAnswers: absurd answers are not from a cis490 receiver.
func TestPing_AbsurdAnswers(t *testing.T) {
	const sound = `"policy":"p","store_id":"s","gate":{}`
	for name, body := range map[string]string{
		"deep": `{"server_time":"2026-01-01T00:00:00Z",` + sound + `,"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) +
			`}`,
		"a year too late": `{"server_time":"9999-12-31T23:59:59-23:59",` + sound + `}`,
		"two answers":     `{"server_time":"2026-01-01T00:00:00Z",` + sound + `}{}`,
		"two policies":    `{"server_time":"2026-01-01T00:00:00Z","policy":"q",` + sound + `}`,
		"not UTF-8":       "{\"server_time\":\"2026-01-01T00:00:00Z\"," + sound + ",\"x\":\"\xff\"}",
		"endless list":    `{"server_time":"2026-01-01T00:00:00Z",` + sound + `,"x":[` + strings.Repeat("0,", wire.MaxAnswer) + `0]}`,
	} {
		_, c := start(t, func(r *clienttest.Receiver) {
			r.OnPing = func(w http.ResponseWriter, _ *http.Request) bool { _, _ = io.WriteString(w, body); return true }
		}, nil)
		if _, err := c.Ping(t.Context(), wire.Ping{}); !errors.Is(err, wire.ErrNotOurs) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRedirect_IsNamed: for a ping and for an upload.
func TestRedirect_IsNamed(t *testing.T) {
	lead := func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "https://portal.example/login?token=s3cret", http.StatusTemporaryRedirect)
		return true
	}
	_, c := start(t, func(r *clienttest.Receiver) { r.OnPing, r.OnPut = lead, lead }, nil)
	_, ping := c.Ping(t.Context(), wire.Ping{})
	_, _, put := c.Put(t.Context(), tarball([]byte("x")))
	for _, err := range []error{ping, put} {
		if !errors.Is(err, wire.ErrNotOurs) || !strings.Contains(err.Error(), "https://portal.example/login") ||
			strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
	}
}
