package s3test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// Fault is the fault of a request.
type Fault string

// The faults.
const (
	LoseAnswer  Fault = "its answer is lost"
	Twice       Fault = "it is sent twice"
	HalfBody    Fault = "half its body arrives"
	Refuse      Fault = "its connection is closed"
	SlowDown    Fault = "SlowDown"
	Internal    Fault = "status 500"
	Redirect    Fault = "a redirect"
	EmptyOK     Fault = "status 200 with an error in its body"
	Denied      Fault = "AccessDenied"
	Full        Fault = "QuotaExceeded"
	Skewed      Fault = "RequestTimeTooSkewed"
	DamagedBody Fault = "a byte of its body changes"

	OKTooEarly Fault = "status 200 before its body arrives" // of a large body: a small one is sent by then
)

// Faults returns all faults of every request.
func Faults() []Fault {
	return []Fault{LoseAnswer, Twice, HalfBody, Refuse, SlowDown, Internal, Redirect, EmptyOK, Denied, Full, Skewed, DamagedBody}
}

// maxBody bounds the body in the proxy's memory, in bytes.
const maxBody = 256 << 20

// Proxy forwards requests to a server and breaks some of them.
type Proxy struct {
	Addr   string
	target string
	client http.Client

	mu        sync.Mutex
	calls     int
	first     int // first broken request, from 1
	last      int // last broken request; 0: none
	every     int // of these, each n-th; 0: all
	fault     Fault
	unchecked bool
}

// NewProxy starts a proxy in front of a server. It ends with the test.
func NewProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := Before(s.Addr)
	p.Addr = l.Addr().String()
	server := &http.Server{Handler: p} //nolint:gosec // loopback, in a test
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		p.client.CloseIdleConnections()
	})
	return p
}

// Before returns a proxy before the server at an address. It breaks nothing, and listens
// nowhere yet.
func Before(addr string) *Proxy {
	p := &Proxy{target: addr}
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return p
}

// Break breaks each n-th request from now on.
func (p *Proxy) Break(n int, f Fault) {
	p.Arm(1, f, math.MaxInt32)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every = n
}

// Arm breaks requests, beginning with the n-th from now, counted from 1. With n 0 it breaks
// none.
func (p *Proxy) Arm(n int, f Fault, more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.first, p.last, p.fault = 0, n, n+more, f
}

// Unchecked makes the store accept bodies without comparing them with their digest.
func (p *Proxy) Unchecked() { p.unchecked = true }

// Calls returns the number of requests since Arm.
func (p *Proxy) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls++
	fault := Fault("")
	if p.calls >= p.first && p.calls <= p.last && (p.every == 0 || p.calls%p.every == 0) {
		fault = p.fault
	}
	p.mu.Unlock()
	switch fault {
	case Refuse:
		panic(http.ErrAbortHandler)
	case SlowDown:
		problem(w, http.StatusServiceUnavailable, "SlowDown")
	case Internal:
		problem(w, http.StatusInternalServerError, "InternalError")
	case OKTooEarly:
		if r.ContentLength <= 0 {
			p.pass(w, r, "")
			return
		}
		w.Header().Set("ETag", `"early"`)
		w.WriteHeader(http.StatusOK)
	case EmptyOK:
		problem(w, http.StatusOK, "InternalError")
	case Denied:
		problem(w, http.StatusForbidden, "AccessDenied")
	case Full:
		problem(w, http.StatusForbidden, "QuotaExceeded")
	case Skewed:
		problem(w, http.StatusForbidden, "RequestTimeTooSkewed")
	case Redirect:
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		p.pass(w, r, fault)
	}
}

func problem(w http.ResponseWriter, status int, code string) {
	body := fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>by the proxy</Message></Error>", code)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, fault Fault) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if fault == HalfBody {
		_, _ = p.send(r, io.LimitReader(bytes.NewReader(body), int64(len(body)/2)), int64(len(body)))
		panic(http.ErrAbortHandler)
	}
	if fault == DamagedBody && len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	if fault == Twice {
		if res, err := p.send(r, bytes.NewReader(body), int64(len(body))); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	}
	res, err := p.send(r, bytes.NewReader(body), int64(len(body)))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = res.Body.Close() }()
	if fault == LoseAnswer {
		_, _ = io.Copy(io.Discard, res.Body)
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body)
}

// send forwards a request under the host name that the client signed.
func (p *Proxy) send(r *http.Request, body io.Reader, size int64) (*http.Response, error) {
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, "http://"+p.target+r.URL.RequestURI(), nil)
	if err != nil {
		return nil, err
	}
	if size > 0 {
		out.Body, out.ContentLength = io.NopCloser(body), size
	}
	out.Header, out.Host = r.Header.Clone(), r.Host
	if p.unchecked && size > 0 && len(out.Header.Get("X-Amz-Content-Sha256")) == 64 && !strings.Contains(r.URL.RawQuery, "uploadId") {
		out.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		out.Header.Del("Authorization")
		out = signer.SignV4(*out, access, secret, "", region)
	}
	return p.client.Do(out)
}
