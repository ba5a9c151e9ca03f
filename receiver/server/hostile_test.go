package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/config"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// raw opens a TLS connection for requests that no client of this program sends.
func (h *host) raw() *tls.Conn {
	h.r.t.Helper()
	tr, ok := h.client.Transport.(*http.Transport)
	if !ok {
		h.r.t.Fatal("no transport")
	}
	c := tr.TLSClientConfig.Clone()
	c.ServerName, c.NextProtos = "localhost", []string{"http/1.1"}
	conn, err := tls.Dial("tcp", h.r.server.Addr().String(), c)
	must(h.r.t, err)
	h.r.t.Cleanup(func() { _ = conn.Close() })
	must(h.r.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// head is the head of a PUT of ep1 over HTTP/1.1.
func (h *host) head(length string, more ...string) string {
	lines := append([]string{
		"PUT " + wire.EpisodePath(h.name, ep1) + " HTTP/1.1", "Host: localhost", "Content-Type: " + wire.ContentTypeEpisode,
		length, wire.HeaderDigest + ": " + string(digestOf([]byte("one"))), wire.HeaderSchema + ": 1", wire.HeaderHost + ": " + string(h.name),
		wire.HeaderEpisode + ": " + string(ep1), wire.HeaderCommit + ": " + string(own), "Authorization: Bearer " + h.bearer,
	}, more...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// status reads the next answer's status line and the rest of the answer.
func status(t *testing.T, c io.Reader) int {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return res.StatusCode
}

func idle(d time.Duration) func(*harness) {
	return func(r *harness) { r.config.Limits.IdleTimeout = config.Duration(d) }
}

func TestHostile_Bodies(t *testing.T) { onEach(t, hostileBodies) }

func hostileBodies(t *testing.T, on func(*harness)) {
	r := newHarness(t, on, idle(300*time.Millisecond))
	a := r.enrol("lab-a")
	t.Run("silent", func(t *testing.T) {
		c := a.raw()
		_, err := io.WriteString(c, a.head("Content-Length: 3")+"on")
		must(t, err)
		if got := status(t, c); got != 408 {
			t.Errorf("answered %d", got)
		}
	})
	t.Run("a byte at a time", func(t *testing.T) {
		c := a.raw()
		_, err := io.WriteString(c, a.head("Content-Length: 100000"))
		must(t, err)
		go func() {
			for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
				if _, err := c.Write([]byte("x")); err != nil {
					tick.Stop()
					return
				}
			}
		}()
		if got := status(t, c); got != 408 {
			t.Errorf("answered %d", got)
		}
	})
	t.Run("ends early", func(t *testing.T) {
		c := a.raw()
		_, err := io.WriteString(c, a.head("Content-Length: 3")+"on")
		must(t, err)
		must(t, c.CloseWrite())
		if got := status(t, c); got != 408 {
			t.Errorf("answered %d", got)
		}
	})
	t.Run("two lengths", func(t *testing.T) {
		c := a.raw()
		_, err := io.WriteString(c, a.head("Content-Length: 3", "Content-Length: 4")+"one")
		must(t, err)
		if got := status(t, c); got != 400 {
			t.Errorf("answered %d", got)
		}
	})
	t.Run("length and chunks", func(t *testing.T) {
		c := a.raw()
		_, err := io.WriteString(c, a.head("Content-Length: 3", "Transfer-Encoding: chunked")+"3\r\none\r\n0\r\n\r\n")
		must(t, err)
		if got := status(t, c); got != 400 {
			t.Errorf("answered %d", got)
		}
	})
	t.Run("very long header", func(t *testing.T) {
		c := a.raw()
		_, err := io.WriteString(c, a.head("Content-Length: 3", "X-Long: "+strings.Repeat("x", 60<<10)))
		must(t, err)
		if got := status(t, c); got != 431 {
			t.Errorf("answered %d", got)
		}
	})
	r.untouched()
	// Requests that net/http rejects by itself are logged, too, at most once a minute.
	for _, want := range []string{"request that cannot be read", "the body ended before its announced length", "idle timeout"} {
		r.eventually("the log has "+want, func() bool { return strings.Contains(r.log.String(), want) })
	}

	t.Run("longer than announced", func(t *testing.T) {
		c := a.raw()
		_, err := io.WriteString(c, a.head("Content-Length: 3")+"one and more\r\n\r\n")
		must(t, err)
		b := bufio.NewReader(c)
		res, err := http.ReadResponse(b, nil)
		must(t, err)
		if res.StatusCode != 201 {
			t.Errorf("the announced part is answered %d", res.StatusCode)
		}
		_, err = io.Copy(io.Discard, res.Body)
		must(t, err)
		if res, err := http.ReadResponse(b, nil); err == nil && res.StatusCode != 400 {
			t.Errorf("the rest is answered %d", res.StatusCode)
		}
	})
	if len(r.rows()) != 1 || len(r.files()) != 1 {
		t.Errorf("%d rows, files %q", len(r.rows()), r.files())
	}
}

// untouched checks that nothing was stored, once requests in progress ended.
func (r *harness) untouched() {
	r.t.Helper()
	r.eventually("no file is left", func() bool { return len(r.files()) == 0 })
	if rows := r.rows(); len(rows) > 0 {
		r.t.Errorf("rows %+v", rows)
	}
}

func (r *harness) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.t.Fatalf("not so after 10 s: %s", what)
		case <-tick.C:
		}
	}
}

func TestHostile_CertificateInAHeaderSaysNothing(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	nobody := &host{r: r, name: "lab-a", bearer: a.bearer, client: r.clientOf(nil)}
	status, kind, _ := nobody.do(nobody.request(ep1, "one", set("X-Client-Cert", base64.StdEncoding.EncodeToString(a.pair.Certificate[0]))))
	if status != 401 || kind != wire.Unauthorized {
		t.Errorf("answered %d %s", status, kind)
	}
	r.untouched()
	if log := r.log.String(); !strings.Contains(log, "status=401") || !strings.Contains(log, "host=lab-a") {
		t.Errorf("not logged: %s", log)
	}
}

// refuseBody is a body that must not be read.
type refuseBody struct{ t *testing.T }

func (b refuseBody) Read([]byte) (int, error) {
	b.t.Error("the body was sent")
	return 0, io.EOF
}

func TestPut_RefusedBeforeTheBodyIsSent(t *testing.T) { onEach(t, refusedBeforeTheBodyIsSent) }

func refusedBeforeTheBodyIsSent(t *testing.T, on func(*harness)) {
	for _, m := range []mode{direct, socketed} {
		r := newHarness(t, on, over(m))
		a := r.enrol("lab-a")
		req := a.request(ep1, large, set(wire.HeaderCommit, string(other)))
		req.Body = io.NopCloser(refuseBody{t})
		if status, _, _ := a.do(req); status != 412 {
			t.Errorf("%q: answered %d", m, status)
		}
		r.untouched()
	}
}

// TestExpect_NoContinueForARefusal: on the wire, a refused head is answered with the
// refusal and not with 100, so that the body is not sent; an accepted one is answered
// with 100.
func TestExpect_NoContinueForARefusal(t *testing.T) { onEach(t, noContinueForARefusal) }

func noContinueForARefusal(t *testing.T, on func(*harness)) {
	for _, m := range []mode{direct, socketed} {
		r := newHarness(t, on, over(m))
		a := r.enrol("lab-a")
		dial := func() (net.Conn, string) {
			if m == direct {
				return a.raw(), ""
			}
			c, err := net.Dial("unix", r.config.TLS.Socket)
			must(t, err)
			t.Cleanup(func() { _ = c.Close() })
			must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
			return c, "X-Client-Cert: " + base64.StdEncoding.EncodeToString(a.pair.Certificate[0])
		}
		for want, digest := range map[int]string{400: "none", 100: string(digestOf([]byte("one")))} {
			c, cert := dial()
			head := strings.Replace(a.head("Content-Length: 3", "Expect: 100-continue", cert), string(digestOf([]byte("one"))), digest, 1)
			_, err := io.WriteString(c, strings.Replace(head, "\r\n\r\n\r\n", "\r\n\r\n", 1))
			must(t, err)
			line, err := bufio.NewReader(c).ReadString('\n')
			must(t, err)
			if !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", want)) {
				t.Errorf("%q: the first answer is %q, want %d", m, line, want)
			}
			must(t, c.Close())
		}
		r.untouched()
	}
}

func TestPut_DecommissionedInMidUpload(t *testing.T) { onEach(t, decommissionedInMidUpload) }

func decommissionedInMidUpload(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a := r.enrol("lab-a")
	pr, pw := io.Pipe()
	req := a.request(ep1, large)
	req.Body = pr
	go func() {
		_, _ = io.WriteString(pw, large[1:])
		r.event(roster.Event{Host: "lab-a", Event: roster.Decommissioned})
		_, _ = io.WriteString(pw, large[:1])
		_ = pw.Close()
	}()
	if status, kind, _ := a.do(req); status != 403 || kind != wire.Decommission {
		t.Errorf("answered %d %s", status, kind)
	}
	r.untouched()
}

func TestPut_BusyAndFull(t *testing.T) { onEach(t, busyAndFull) }

func busyAndFull(t *testing.T, on func(*harness)) {
	r := newHarness(t, on, func(r *harness) { r.config.Limits.Uploads = 4 }) // one per host
	a, b := r.enrol("lab-a"), r.enrol("lab-b")
	pr, pw := io.Pipe()
	req := a.request(ep1, large)
	req.Body = pr
	done := make(chan int, 1)
	go func() {
		status, _, _ := a.do(req)
		done <- status
	}()
	_, err := io.WriteString(pw, large[1:]) // returns once the receiver has asked for the body
	must(t, err)
	if status, kind, _ := a.do(a.request(ep2, "two")); status != 429 || kind != wire.Busy {
		t.Errorf("a second of the same host: %d %s", status, kind)
	}
	if status, _, _ := b.do(b.request(ep2, "two")); status != 201 {
		t.Errorf("another host's: %d", status)
	}
	_, err = io.WriteString(pw, large[:1])
	must(t, err)
	must(t, pw.Close())
	if status := <-done; status != 201 {
		t.Errorf("the first: %d", status)
	}

	full := newHarness(t, on, func(r *harness) { r.config.Limits.DiskReserve = 1 << 60 })
	c := full.enrol("lab-c")
	if status, kind, _ := c.do(c.request(ep1, "one")); status != 507 || kind != wire.Full {
		t.Errorf("on a full disk: %d %s", status, kind)
	}
	full.untouched()
	if status, kind, detail := c.do(full.get("/readyz")); status != 503 || kind != wire.NotReady || !strings.Contains(detail, "space") {
		t.Errorf("readyz: %d %s %s", status, kind, detail)
	}
}

// TestNotReady_OnlyReceiver: a host keeps its connection, because a new one leads to the same
// receiver.
func TestNotReady_OnlyReceiver(t *testing.T) {
	r := newHarness(t, func(r *harness) { must(t, os.Remove(filepath.Join(r.dir, "receiver.toml"))) })
	a := r.enrol("lab-a")
	req := a.request(ep1, "one")
	req.Header.Del("Expect") // net/http ends a connection whose client may or may not send the body
	res, err := a.client.Do(req)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode != 503 || res.Close {
		t.Errorf("answered %d, the connection ends: %t", res.StatusCode, res.Close)
	}
}

func (r *harness) get(p string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, r.url(p), nil)
	must(r.t, err)
	return req
}

func TestServe_FollowsTheAuthority(t *testing.T) { onEach(t, followsTheAuthority) }

func followsTheAuthority(t *testing.T, on func(*harness)) {
	r := newHarness(t, on, func(r *harness) {
		for _, f := range []string{"server.pem", "trust.pem", local.RosterFile} {
			must(r.t, os.Remove(filepath.Join(r.config.Authority.Dir, f)))
		}
	})
	if conn, err := net.Dial("tcp", r.server.Addr().String()); err != nil {
		t.Errorf("does not listen: %v", err)
	} else {
		must(t, conn.Close())
	}
	want := fmt.Sprint(r.server.NotReady())
	for _, what := range []string{"server certificate", "trusted CA", "roster"} {
		if !strings.Contains(want, what) {
			t.Errorf("missing %s does not tell of the %s", want, what)
		}
	}
	// The authority starts; the receiver is not restarted.
	r.serverPair()
	a := r.hostWith(r.ca, "lab-a", time.Now(), time.Hour)
	if status, kind, _ := a.do(a.request(ep1, "one")); status != 503 || kind != wire.NotReady {
		t.Errorf("without a CA: %d %s", status, kind)
	}
	r.write("authority/trust.pem", caPEM(r))
	if status, kind, _ := a.do(a.request(ep1, "one")); status != 503 || kind != wire.NotReady {
		t.Errorf("without a roster: %d %s", status, kind)
	}
	a.enrolled()
	if status, _, _ := a.do(a.request(ep1, "one")); status != 201 {
		t.Errorf("then: %d", status)
	}
	// A renewed server certificate is used by the next connection.
	serial := func() string {
		c := a.raw()
		must(t, c.Handshake())
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	r.serverPair()
	after := serial()
	if before == after {
		t.Error("the old certificate is still used")
	}
	r.write("authority/server.pem", "broken")
	if serial() != after {
		t.Error("a broken file took the certificate away")
	}
}

func TestGate_FollowsTheConfigLive(t *testing.T) { onEach(t, followsTheGate) }

func followsTheGate(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a := r.enrol("lab-a")
	foreign := set(wire.HeaderCommit, string(other))
	if status, _, _ := a.do(a.request(ep1, "one", foreign)); status != 412 {
		t.Fatalf("before: %d", status)
	}
	r.gate(`extra_commits = ["` + string(other) + `"]`)
	r.eventually("the commit is accepted", func() bool {
		_, _, answer := a.do(r.get(wire.GatePrefix + string(other)))
		return strings.Contains(answer, `"accepted":true`)
	})
	if status, _, _ := a.do(a.request(ep1, "one", foreign)); status != 201 {
		t.Errorf("after: %d", status)
	}
}

func TestNotes_KnocksContactsRefusals(t *testing.T) { onEach(t, notesRefusals) }

func notesRefusals(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a, b := r.enrol("lab-a"), r.enrol("lab-b")
	nobody := &host{r: r, name: "lab-a", client: r.clientOf(nil)}
	for range 50 {
		nobody.do(nobody.request(ep1, "one"))
		a.do(a.request(ep1, "one", drop(wire.HeaderCommit)))
	}
	for i := range 100 {
		forged := *nobody
		forged.name = b.name
		req := forged.request(ep1, "one", set(wire.HeaderHost, "lab-b"))
		req.URL.Path = strings.Replace(req.URL.Path, "lab-b", fmt.Sprintf("made-up-%d", i), 1)
		forged.do(req)
	}
	if status, _, _ := a.do(a.request(ep1, "one")); status != 201 {
		t.Fatal(status)
	}
	r.stop()
	c, err := contacts.Read(r.backend().Docs)
	must(t, err)
	k := c.Hosts["lab-a"]
	if k == nil || k.LastAccepted.IsZero() || k.LastRefused == nil || k.LastRefused.Kind != wire.Unstamped || k.RefusedCount != 0 {
		t.Fatalf("contact of lab-a: %+v", k)
	}
	if len(k.Unverified) != 1 || k.Unverified[0].Count != 50 || len(k.Verified) != 0 {
		t.Errorf("knocks of lab-a: %+v, claims %+v", k.Verified, k.Unverified)
	}
	if len(c.Hosts) > 2 || len(c.UnknownClients) > 20 || c.UnknownClientCount != 100 {
		t.Errorf("%d hosts, %d strangers of %d", len(c.Hosts), len(c.UnknownClients), c.UnknownClientCount)
	}
	var count, rows uint64
	for row, err := range r.backend().Rejections.Since(time.Time{}) {
		must(t, err)
		rows++
		if row.Host == "lab-a" && row.Kind == wire.Unstamped {
			count += row.Count
		}
	}
	if count != 50 || rows > 8 {
		t.Errorf("%d unstamped are there, in %d rows in all", count, rows)
	}
}

// What is noted of a decommissioned host is forgotten; the others' stays.
func TestNotes_DecommissionedHostsAreForgotten(t *testing.T) {
	r := newHarness(t)
	a, gone := r.enrol("lab-a"), r.enrol("lab-gone")
	for _, h := range []*host{a, gone} {
		if status, _, _ := h.do(h.request(ep1, "one")); status != 201 {
			t.Fatal(status)
		}
	}
	r.event(roster.Event{Host: "lab-gone", Event: roster.Decommissioned})
	r.stop()
	r.start()
	r.eventually("it is forgotten", func() bool {
		c, err := contacts.Read(r.backend().Docs)
		must(t, err)
		return len(c.Hosts) == 1 && c.Hosts["lab-a"] != nil
	})
}
