// Package httpclient makes every HTTP client of the program. A server may be anything
// that answers at an address: a captive portal, a proxy, another service, a liar.
//
// No client follows a redirect: net/http turns a redirected POST into a GET without a
// body, whose 200 says nothing about what was posted, and it carries credentials to
// where the Location leads. No client decompresses, so that an answer is as large as
// what was read of it. The package keeps no state.
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

// Bounds limit one exchange. What is zero is for the caller to bound.
type Bounds struct {
	Total  time.Duration // from the dial to the last byte of the answer
	Answer int64         // size of the answer's body, in bytes
}

// maxHeader bounds the header of an answer, in bytes, interim answers included.
const maxHeader = 64 << 10

// ErrTooLarge reports that the body of an answer is over its bound.
var ErrTooLarge = errors.New("the answer is too large")

// Redirect is the error of a request that was answered with a redirect.
type Redirect struct {
	Status   int
	Location string // without user, password, query and fragment; may be empty
}

// Error names the Location.
func (r *Redirect) Error() string {
	if r.Location == "" {
		return fmt.Sprintf("answered with status %d, a redirect without a Location", r.Status)
	}
	return fmt.Sprintf("answered with status %d, a redirect to %s, which is not followed", r.Status, r.Location)
}

// New returns a client that uses a transport within bounds. A redirect is an error
// that wraps *Redirect. The transport is the client's from then on.
func New(t *http.Transport, b Bounds) *http.Client {
	return &http.Client{Transport: Strict(t, b.Answer), Timeout: b.Total}
}

// Strict returns a RoundTripper that refuses redirects and answers of more than
// maxAnswer bytes; 0 means unlimited. The transport is its own from then on. It is for
// libraries that make their own clients.
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
		_ = res.Body.Close() // its content does not matter
		return nil, &Redirect{res.StatusCode, Redact(res.Header.Get("Location"))}
	}
	if s.maxAnswer > 0 {
		res.Body = &bounded{res.Body, s.maxAnswer}
	}
	return res, nil
}

// bounded is a body that may have left more bytes.
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

// Redact returns a URL that can be shown: without user, password, query and fragment.
// What is not a URL is not shown.
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
