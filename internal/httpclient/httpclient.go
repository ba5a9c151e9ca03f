// Package httpclient makes every HTTP client of the program. The server may be anything
// that answers at an address: a captive portal, a proxy, another service, an attacker.
//
// No client follows redirects: net/http turns a redirected POST into a GET without a body,
// whose 200 says nothing about the POST, and it sends credentials to the Location. No
// client decompresses, so that an answer is as large as the bytes read.
package httpclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"cis490/internal/plain"
)

// Bounds limit one exchange. The caller must bound what is zero.
type Bounds struct {
	Total  time.Duration // from the dial to the answer's last byte
	Answer int64         // the answer's body, in bytes
}

// maxHeader bounds the headers of an answer, interim answers included, in bytes.
const maxHeader = 64 << 10

// ErrTooLarge means that an answer's body exceeds its bound.
var ErrTooLarge = errors.New("the answer is too large")

// Redirect is the error of a request that got a redirect.
type Redirect struct {
	Status   int
	Location string // without user, password, query and fragment; may be empty
}

// Error includes the Location.
func (r *Redirect) Error() string {
	if r.Location == "" {
		return fmt.Sprintf("answered with status %d, a redirect without a Location", r.Status)
	}
	return fmt.Sprintf("answered with status %d, a redirect to %s, which is not followed", r.Status, r.Location)
}

// New returns a client that uses a transport within bounds. A redirect is an error that
// wraps *Redirect. The client owns the transport.
func New(t *http.Transport, b Bounds) *http.Client {
	return &http.Client{Transport: Strict(t, b.Answer), Timeout: b.Total}
}

// Strict returns a RoundTripper that rejects redirects and answers of more than maxAnswer
// bytes; 0 means unlimited. It owns the transport. It is for libraries that make their own
// clients.
func Strict(t *http.Transport, maxAnswer int64) http.RoundTripper {
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxHeader
	return &strict{t, maxAnswer}
}

type strict struct {
	*http.Transport
	maxAnswer int64
}

// RoundTrip implements http.RoundTripper.
func (s *strict) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := s.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 3 && res.StatusCode != http.StatusNotModified {
		_ = res.Body.Close() // its content is not used
		return nil, &Redirect{res.StatusCode, Redact(res.Header.Get("Location"))}
	}
	if s.maxAnswer > 0 {
		res.Body = &bounded{res.Body, s.maxAnswer}
	}
	return res, nil
}

// bounded is a body limited to left bytes.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, ErrTooLarge
	}
	return n, err
}

// Redact returns a URL that is safe to display: without user, password, query and fragment.
// It returns "" for anything but a URL.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || raw == "" {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	if u.Opaque != "" {
		u.Opaque = "…"
	}
	return plain.Line(u.String(), 200)
}
