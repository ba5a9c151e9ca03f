package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/pki"
	"cis490/internal/wire"
)

// fewFiles makes a receiver that is started next have room for about a hundred
// connections, of which a quarter for unknown clients.
func fewFiles(t *testing.T) {
	t.Helper()
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	few := was
	few.Cur = 640
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) })
}

// unknown connects from an address without a certificate, and sends a request.
func (r *harness) unknown(n byte, text string) *tls.Conn {
	r.t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}}
	c, err := d.DialContext(context.Background(), "tcp", r.server.Addr().String())
	must(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	must(r.t, c.SetDeadline(time.Now().Add(30*time.Second)))
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	_, _ = io.WriteString(t, text) // it may be evicted already
	return t
}

const pingHead = "POST " + wire.PingPath + " HTTP/1.1\r\nHost: x\r\n"

// TestUnknown_HostsKeepTheirPlaces: unknown clients that wait in the middle of a
// request, from two addresses, take neither the connection that a host keeps nor a
// new one's place.
func TestUnknown_HostsKeepTheirPlaces(t *testing.T) { onEach(t, hostsKeepTheirPlaces) }

func hostsKeepTheirPlaces(t *testing.T, on func(*harness)) {
	for name, text := range map[string]string{
		"no body":     pingHead + "Content-Length: 1000\r\n\r\n",
		"half header": pingHead,
		"idle":        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			fewFiles(t)
			r := newHarness(t, on)
			a, b := r.enrol("lab-a"), r.enrol("lab-b")
			kept := a.raw()
			in := bufio.NewReader(kept)
			ping := func() {
				t.Helper()
				_, err := io.WriteString(kept, pingHead+"Authorization: Bearer "+a.bearer+"\r\nContent-Length: 2\r\n\r\n{}")
				must(t, err)
				res, err := http.ReadResponse(in, nil)
				must(t, err)
				_, err = io.Copy(io.Discard, res.Body)
				must(t, err)
				if res.StatusCode != 200 {
					t.Errorf("a ping over the kept connection: %d", res.StatusCode)
				}
			}
			ping()
			for i := range 150 {
				r.unknown(byte(2+i%2), text)
			}
			ping()
			if status, _, _ := b.do(b.request(ep1, "one")); status != 201 {
				t.Errorf("an upload over a new connection: %d", status)
			}
			operator := &host{r: r, client: r.clientOf(nil)}
			req := r.get("/metrics")
			req.Header.Set("Authorization", "Bearer s3cret")
			if _, _, body := operator.do(req); !strings.Contains(body, `cis490_connections{state="verified"}`) ||
				strings.Contains(body, `cis490_connections_evicted_total{state="unverified"} 0`) {
				t.Errorf("metrics do not show it:\n%s", body)
			}
		})
	}
}

// TestUnknown_FewLines: refused requests are counted, not logged one by one, however
// they come.
func TestUnknown_FewLines(t *testing.T) {
	r := newHarness(t)
	for range 5 {
		_, _ = io.Copy(io.Discard, r.unknown(2, strings.Repeat(pingHead+"Content-Length: 0\r\n\r\n", 2000)))
	}
	nobody := &host{r: r, name: "lab-a", client: r.clientOf(nil)}
	for i := range 150 {
		nobody.do(nobody.request(ep1, "one"))
		nobody.do(r.get(fmt.Sprintf("/no-such-%d", i)))
		req := r.get("/sign-in")
		req.Method, req.Body, req.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("token=x")), 7
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := nobody.client.Do(req)
		must(t, err)
		_ = res.Body.Close()
	}
	lines := 0
	for line := range strings.Lines(r.log.String()) {
		if !strings.Contains(line, "level=DEBUG") {
			lines++
		}
	}
	if lines > 60 {
		t.Errorf("%d lines:\n%.3000s", lines, r.log)
	}
}

// chainOf returns a leaf with so many intermediates of one name that could each have
// issued the other.
func chainOf(t *testing.T, curve elliptic.Curve, n int) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, err)
	out := &tls.Certificate{PrivateKey: key}
	for i := range n + 1 {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "between"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: i > 0, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: pkix.Name{CommonName: "between"}}, &key.PublicKey, key)
		must(t, err)
		out.Certificate = append(out.Certificate, der)
	}
	return out
}

// TestUnknown_LongChains: a chain that costs more to verify than a host's is refused,
// in the handshake or with an answer.
func TestUnknown_LongChains(t *testing.T) {
	r := newHarness(t)
	for _, c := range []struct {
		curve  elliptic.Curve
		n      int
		status int // 0: no answer
	}{{elliptic.P521(), 120, 0}, {elliptic.P256(), 4, 0}, {elliptic.P521(), 3, 401}, {elliptic.P384(), 3, 401}} {
		client := r.clientOf(chainOf(t, c.curve, c.n))
		res, err := client.Post(r.url(wire.PingPath), "application/json", strings.NewReader("{}"))
		switch {
		case err != nil && c.status != 0:
			t.Errorf("%d of %s: %v", c.n, c.curve.Params().Name, err)
		case err == nil:
			_ = res.Body.Close()
			if res.StatusCode != c.status || !res.Close {
				t.Errorf("%d of %s: %d", c.n, c.curve.Params().Name, res.StatusCode)
			}
		}
	}
}

// What was found of a connection's chain holds for as long as the trust bundle does.
func TestVerdict_FollowsTheTrustBundle(t *testing.T) { onEach(t, verdictFollowsTheTrustBundle) }

func verdictFollowsTheTrustBundle(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a := r.enrol("lab-a")
	if status, _, _ := a.do(a.request(ep1, "one")); status != 201 {
		t.Fatal(status)
	}
	other, err := pki.NewCA(time.Now())
	must(t, err)
	r.write("authority/trust.pem", string(pki.EncodeCerts(other.Cert)))
	if status, kind, _ := a.do(a.request(ep1, "one")); status != 401 || kind != wire.Unauthorized {
		t.Errorf("over the same connection, by a CA that is trusted no more: %d %s", status, kind)
	}
	r.write("authority/trust.pem", caPEM(r))
	if status, _, _ := a.do(a.request(ep1, "one")); status != 200 {
		t.Errorf("trusted again: %d", status)
	}
}

// Of many ranges each would have a head: the file is sent as a whole.
func TestUnknown_ManyRanges(t *testing.T) {
	r := newHarness(t)
	for _, path := range []string{"/assets/style.css"} {
		req := r.get(path)
		req.Header.Set("Range", "bytes="+strings.Repeat("0-0,", 500)+"0-0")
		res, err := r.clientOf(nil).Do(req)
		must(t, err)
		_ = res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}
