package authority_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/config"
	"cis490/internal/wire"
)

// TestUnknown_TakeNoPlace: with few descriptors, unknown clients from two addresses keep
// connections open before the handshake, in it, and in a request. A host still gets its
// certificate, and the log has few lines.
func TestUnknown_TakeNoPlace(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 600
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) })
	s := newHarness(t)
	tok, csr := s.token("lab-01"), s.csr("lab-01")
	for i := range 200 {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%2))}}
		c, err := d.DialContext(context.Background(), "tcp", s.auth.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if i%4 == 0 {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a TCP connection has them
		text := []string{
			"GET /v1/ca HTTP/1.1\r\nHos", "POST /v1/cert/lab-01 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
			"GET /v1/ca HTTP/1.1\r\nHost: x\r\n\r\n",
		}[i%3]
		_, _ = io.WriteString(tls.Client(c, &tls.Config{InsecureSkipVerify: true}), text) // it may be evicted already
	}
	if _, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: tok.Secret}); err != nil {
		t.Errorf("a host with its token: %v", err)
	}
}

// TestUnknown_FewLines: rejected requests from many networks share one limit of log lines.
func TestUnknown_FewLines(t *testing.T) {
	s := newHarness(t)
	csr := s.csr("lab-01")
	for i := range 300 {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i%250))}}
		c, err := tls.DialWithDialer(d, "tcp", s.auth.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"csr":%q,"token":"wrong"}`, csr)
		_, _ = fmt.Fprintf(
			c, "POST /v1/cert/lab-01 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body,
		)
		got, _ := io.ReadAll(c)
		_ = c.Close()
		if !strings.HasPrefix(string(got), "HTTP/1.1 4") {
			t.Fatalf("answered %q", got)
		}
	}
	if n := strings.Count(s.log.String(), "rejected certificate request"); n > 25 || n == 0 {
		t.Errorf("%d lines about rejected requests", n)
	}
}

// A host that requests certificates without end, by token or key, is limited: the roster
// stays small and other hosts are served.
func TestHost_FewCertificates(t *testing.T) {
	s := newHarness(t)
	tok, csr := s.token("lab-01"), s.csr("lab-01")
	ask := func(req wire.CertRequest) (n int) {
		t.Helper()
		for range 50 {
			if _, err := s.post("lab-01", req); err == nil {
				n++
			} else if p, ok := errors.AsType[*wire.Problem](err); !ok || p.Kind != wire.Busy {
				t.Fatal(err)
			}
		}
		return n
	}
	if n := ask(wire.CertRequest{CSR: csr, Token: tok.Secret}) + ask(wire.CertRequest{CSR: csr}); n != 20 {
		t.Errorf("%d certificates at once", n)
	}
	if _, err := s.post("lab-02", wire.CertRequest{CSR: s.csr("lab-02"), Token: s.token("lab-02").Secret}); err != nil {
		t.Errorf("another host: %v", err)
	}
	s.clock.pass(config.DefaultReceiver().Authority.CertLife.D() / 10)
	if n := ask(wire.CertRequest{CSR: csr}); n != 5 {
		t.Errorf("%d certificates a tenth of a certificate's life later", n)
	}
}
