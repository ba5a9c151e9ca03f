package listen

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/pki"
)

// fixture is a server whose limits a test chooses. A request with ?as=NAME is one of that
// client.
type fixture struct {
	t    *testing.T
	l    *Listener
	addr string
}

func newFixture(t *testing.T, unverified, verified int, balancers ...netip.Prefix) *fixture {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	must(t, err)
	key, err := pki.NewKey()
	must(t, err)
	cert, err := ca.Server(key.Public(), []string{"localhost"}, time.Now(), time.Hour)
	must(t, err)
	conf := pki.ServerTLS(nil)
	conf.GetCertificate = nil
	conf.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	o := Options{TLS: conf, Unverified: unverified, Verified: verified, Balancers: balancers, Log: log}
	f := &fixture{t: t, l: New(inner, o), addr: inner.Addr().String()}
	s := Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name := r.URL.Query().Get("as"); {
		case name != "":
			Verified(r.Context(), name, 2)
		case r.URL.Path == "/refused":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/body":
			_, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
			}
		}
	}), log)
	done := make(chan error, 1)
	go func() { done <- s.Serve(f.l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from 127.0.0.n.
func (f *fixture) dial(n byte) net.Conn {
	f.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}}
	c, err := d.Dial("tcp", f.addr)
	must(f.t, err)
	f.t.Cleanup(func() { _ = c.Close() })
	must(f.t, c.SetDeadline(time.Now().Add(60*time.Second)))
	return c
}

func (f *fixture) tls(n byte) *tls.Conn {
	f.t.Helper()
	return tls.Client(f.dial(n), &tls.Config{InsecureSkipVerify: true})
}

// get sends a request on a connection that stays open, and returns the status.
func get(c io.ReadWriter, path, more string) (int, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, more); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// closed waits until the server closes a connection, and returns what it sent.
func closed(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was not closed")
	}
	return string(b)
}

// Verified clients keep their connections, and a client with one connection is served,
// while others hold as many as they can, each in another way.
func TestListener_ManyConnectionsEvictEachOther(t *testing.T) {
	hold := map[string]func(f *fixture, n byte){
		"that say nothing":   func(f *fixture, n byte) { f.dial(n) },
		"in mid-handshake":   func(f *fixture, n byte) { _, _ = io.WriteString(f.dial(n), "\x16\x03\x01\x02\x00\x01") },
		"idle after it":      func(f *fixture, n byte) { _ = f.tls(n).Handshake() },
		"with half a header": func(f *fixture, n byte) { _, _ = io.WriteString(f.tls(n), "GET / HTTP/1.1\r\nHost") },
		"with half a body": func(f *fixture, n byte) {
			_, _ = io.WriteString(f.tls(n), "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
		},
		"idle after a request": func(f *fixture, n byte) { _, _ = get(f.tls(n), "/", "") },
	}
	for name, one := range hold {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 12, 12)
			kept := f.tls(1)
			if status, err := get(kept, "/?as=lab-01", ""); err != nil || status != 200 {
				t.Fatal(status, err)
			}
			var many sync.WaitGroup
			for n := range byte(2) {
				many.Go(func() {
					for range 40 {
						one(f, 2+n)
					}
				})
			}
			for range 5 { // while they come
				if status, err := get(f.tls(4), "/", ""); err != nil || status != 200 {
					t.Errorf("a client with few connections: %d, %v", status, err)
				}
			}
			many.Wait()
			if status, err := get(kept, "/?as=lab-01", ""); err != nil || status != 200 {
				t.Errorf("the verified one: %d, %v", status, err)
			}
			if s := f.l.Stats(); s.EvictedVerified != 0 || s.EvictedUnverified < 50 || s.Unverified > 12 || s.Verified != 1 ||
				s.RecentFrom != "127.0.0.2" && s.RecentFrom != "127.0.0.3" {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

// One client cannot take the places of others: beyond its limit it loses its own
// connections.
func TestListener_AClientHasALimit(t *testing.T) {
	f := newFixture(t, 12, 12)
	other := f.tls(1)
	_, err := get(other, "/?as=lab-02", "")
	must(t, err)
	first := f.tls(1)
	for i := range 10 {
		c := first
		if i > 0 {
			c = f.tls(1)
		}
		if status, err := get(c, "/?as=lab-01", ""); err != nil || status != 200 {
			t.Errorf("connection %d: %d, %v", i, status, err)
		}
	}
	closed(t, first)
	if status, err := get(other, "/?as=lab-02", ""); err != nil || status != 200 {
		t.Errorf("the other client: %d, %v", status, err)
	}
	if s := f.l.Stats(); s.Verified != 3 || s.EvictedVerified != 8 {
		t.Errorf("counted %+v", s)
	}
}

// A handshake is cut off if it is longer than any of a host, whatever its records.
func TestListener_LongHandshakes(t *testing.T) {
	f := newFixture(t, 12, 12)
	for _, record := range []string{
		"\x16\x03\x01\x00\x01\x01", // one byte each
		"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + strings.Repeat("x", 16<<10-4), // one message over many
	} {
		c := f.dial(1)
		for range 10_000 {
			if _, err := io.WriteString(c, record); err != nil {
				break
			}
		}
		closed(t, c)
	}
	if s := f.l.Stats(); s.HandshakesTooLong+s.HandshakesBroken != 2 || s.HandshakesTooLong == 0 {
		t.Errorf("counted %+v", s)
	}
}

// A client that stalls is disconnected after ten seconds: in the handshake, in a header, in
// a body, before it reads an answer.
func TestServer_GivesUpWhoStalls(t *testing.T) {
	f := newFixture(t, 100, 12)
	for name, text := range map[string]string{
		"handshake": "", "header": "GET / HTTP/1.1\r\nHos", "body": "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
		"expect": "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
		"chunks": "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 1000) + "\r\na\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "handshake" {
				closed(t, f.dial(1))
				return
			}
			c := f.tls(1)
			_, err := io.WriteString(c, text)
			must(t, err)
			closed(t, c)
		})
	}
}

// A refusal is sent before the body has arrived, the connection is closed after it, and a
// client that still sends sees it.
func TestServer_RefusesBeforeTheBody(t *testing.T) {
	f := newFixture(t, 100, 12)
	for name, text := range map[string]string{
		"no body":    "POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"much of it": "POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000),
		"closes":     "POST /refused HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000),
		"large":      "POST /refused HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n" + strings.Repeat("x", 300_000),
		"a get":      "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := f.tls(1)
			_, err := io.WriteString(c, text)
			must(t, err)
			got := closed(t, c)
			if strings.Count(got, "HTTP/1.1 ") != 1 || !strings.Contains(got, "Connection: close") {
				t.Errorf("answered %q", got)
			}
		})
	}
}

// Of many pipelined requests the first refusal is the last answer, if the client gets it.
func TestServer_AnswersNoRequestAfterARefusal(t *testing.T) {
	f := newFixture(t, 100, 12)
	c := f.tls(1)
	_, _ = io.WriteString(c, strings.Repeat("GET /refused HTTP/1.1\r\nHost: x\r\n\r\n", 1000)) // cut off
	if got := closed(t, c); strings.Count(got, "HTTP/1.1 ") > 1 {
		t.Errorf("answered %q", got)
	}
}

// Protocols that no cis490 client speaks are refused.
func TestServer_SpeaksHTTP1Only(t *testing.T) {
	f := newFixture(t, 100, 12)
	c := tls.Client(f.dial(1), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err := c.Handshake(); err == nil {
		t.Error("a client that speaks HTTP/2 only is let in")
	}
	c = tls.Client(f.dial(1), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if _, err := get(c, "/", ""); err != nil || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("%v, over %q", err, c.ConnectionState().NegotiatedProtocol)
	}
	c = f.tls(1)
	_, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	must(t, err)
	if got := closed(t, c); !strings.HasPrefix(got, "HTTP/1.1 ") {
		t.Errorf("HTTP/2 without asking is answered %q", got)
	}
}
