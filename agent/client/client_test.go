package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/client/clienttest"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

const (
	episode ident.EpisodeID = "01J0000000000000000000000A"
	commit  ident.Commit    = "1111111111111111111111111111111111111111"
)

func tarball(content []byte) client.Tarball {
	sum := sha256.Sum256(content)
	return client.Tarball{
		Episode: episode, Digest: ident.Digest(hex.EncodeToString(sum[:])), Size: int64(len(content)), Commit: commit,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}

func start(t *testing.T, change func(*clienttest.Receiver), config func(*config.LabHost)) (*clienttest.Receiver, *client.Client) {
	t.Helper()
	r := clienttest.Start(t, change)
	c := r.Config(t)
	if config != nil {
		config(&c)
	}
	cl, err := client.New(c, version.Info{Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return r, cl
}

func TestPut_Story(t *testing.T) {
	r, c := start(t, nil, nil)
	body := bytes.Repeat([]byte("sample\n"), 1<<16)
	tb := tarball(body)
	var sent int
	tb.Sent = func(n int) { sent += n }
	rec, created, err := c.Put(t.Context(), tb)
	if err != nil || !created || rec.Digest != tb.Digest || rec.StoreID != "store-1" {
		t.Fatalf("first: %+v, %v, %v", rec, created, err)
	}
	if sent != len(body) {
		t.Errorf("sent %d bytes, want %d", sent, len(body))
	}
	if _, created, err := c.Put(t.Context(), tb); err != nil || created {
		t.Errorf("again: created %v, %v; want the receipt of the first", created, err)
	}
	_, _, err = c.Put(t.Context(), tarball([]byte("other")))
	if p := client.Refusal(err); p == nil || p.Kind != wire.OtherDigest {
		t.Errorf("other content: %v, want a conflict", err)
	}
	r.Refuse(commit, &wire.Problem{Kind: wire.Gated, Status: 412, Title: "gate", Fix: "x", RetryAfter: 7})
	other := tarball([]byte("x"))
	other.Episode = "01J0000000000000000000000B"
	other.Open = func() (io.ReadCloser, error) { return nil, errors.New("must not be read: the answer needs no body") }
	_, _, err = c.Put(t.Context(), other)
	if p := client.Refusal(err); p == nil || p.Kind != wire.Gated || p.RetryAfter != 7 {
		t.Errorf("gated: %v, want 412 with Retry-After 7 and an unread body", err)
	}
}

func TestPut_LyingPeers(t *testing.T) {
	answer := func(status int, contentType, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	tb := tarball([]byte("content"))
	receipt := func(change func(*wire.Receipt)) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			rec := wire.Receipt{Host: clienttest.Host, Episode: episode, Digest: tb.Digest, Size: tb.Size, StoredAt: time.Now(), StoreID: "store-1"}
			change(&rec)
			clienttest.JSON(w, http.StatusCreated, rec)
			return true
		}
	}
	for name, lie := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"empty body":         answer(200, wire.ContentTypeJSON, ""),
		"empty object":       answer(201, wire.ContentTypeJSON, "{}"),
		"portal page":        answer(200, "text/html", "<html>Please log in</html>"),
		"portal 404":         answer(404, "text/html", "<html>Not found</html>"),
		"bare 412":           answer(412, "text/plain", "no"),
		"foreign problem":    answer(400, wire.ContentTypeProblem, `{"type":"about:blank","status":400}`),
		"problem of another": answer(409, wire.ContentTypeProblem, `{"type":"tag:cis490,2026:problem:gate","status":412}`),
		"204":                answer(204, "", ""),
		"endless receipt":    answer(200, wire.ContentTypeJSON, string(bytes.Repeat([]byte(" "), 1<<20))),
		"other digest":       receipt(func(r *wire.Receipt) { r.Digest = tarball([]byte("x")).Digest }),
		"other episode":      receipt(func(r *wire.Receipt) { r.Episode = "01J0000000000000000000000B" }),
		"other host":         receipt(func(r *wire.Receipt) { r.Host = "lab-02" }),
		"other size":         receipt(func(r *wire.Receipt) { r.Size++ }),
		"other store":        receipt(func(r *wire.Receipt) { r.StoreID = "store-2" }),
		"no store":           receipt(func(r *wire.Receipt) { r.StoreID = "" }),
		"redirect": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/v1/episodes/elsewhere", http.StatusTemporaryRedirect)
			return true
		},
		"redirect with a problem": func(w http.ResponseWriter, _ *http.Request) bool {
			clienttest.Refuse(w, &wire.Problem{Kind: wire.Malformed, Status: 302})
			return true
		},
		"cut after the last byte": func(_ http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		},
		"cut within the receipt": func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", "500")
			w.WriteHeader(201)
			_, _ = io.WriteString(w, `{"host":`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := start(t, func(r *clienttest.Receiver) { r.OnPut = lie }, nil)
			tb := tb
			tb.Store = "store-1"
			_, _, err := c.Put(t.Context(), tb)
			if err == nil {
				t.Fatal("was believed")
			}
			if p := client.Refusal(err); p != nil {
				t.Errorf("taken for a refusal of ours: %v", p)
			}
			if errors.Is(err, client.ErrTarball) {
				t.Errorf("blamed on the tarball: %v", err)
			}
		})
	}
}

func TestPut_Silence(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"no answer": func(http.ResponseWriter) {},
		"half an answer": func(w http.ResponseWriter) {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Until the test ends: a server that does not read does not notice that the
			// client has gone.
			hang := func(w http.ResponseWriter, _ *http.Request) bool { begin(w); <-t.Context().Done(); return true }
			_, c := start(t, func(r *clienttest.Receiver) { r.OnPut = hang },
				func(c *config.LabHost) { c.Ship.IdleTimeout = config.Duration(300 * time.Millisecond) })
			_, _, err := c.Put(t.Context(), tarball(bytes.Repeat([]byte{1}, 16<<20)))
			if !errors.Is(err, client.ErrSilence) {
				t.Errorf("got %v, want ErrSilence", err)
			}
		})
	}
}

// A transfer may take far longer than the idle timeout while it makes progress.
func TestPut_SlowIsNotSilent(t *testing.T) {
	_, c := start(t, nil, func(c *config.LabHost) { c.Ship.IdleTimeout = config.Duration(500 * time.Millisecond) })
	body := bytes.Repeat([]byte{7}, 20)
	tb := tarball(body)
	tb.Open = func() (io.ReadCloser, error) {
		pr, pw := io.Pipe()
		go func() {
			for _, b := range body {
				time.Sleep(75 * time.Millisecond) // the slowness under test
				_, _ = pw.Write([]byte{b})
			}
			_ = pw.Close()
		}()
		return pr, nil
	}
	if _, _, err := c.Put(t.Context(), tb); err != nil {
		t.Error(err)
	}
}

func TestPut_LocalFault(t *testing.T) {
	gone := tarball([]byte("x"))
	gone.Open = func() (io.ReadCloser, error) { return nil, os.ErrNotExist }
	short := tarball([]byte("content"))
	short.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte("con"))), nil }
	long := tarball([]byte("content"))
	long.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte("content and more"))), nil }
	for name, tb := range map[string]client.Tarball{"gone": gone, "shorter": short, "longer": long} {
		_, c := start(t, nil, nil)
		if _, _, err := c.Put(t.Context(), tb); !errors.Is(err, client.ErrTarball) {
			t.Errorf("%s: %v, want ErrTarball", name, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	r, c := start(t, nil, nil)
	if _, err := c.Ping(t.Context(), wire.Ping{}); err != nil {
		t.Fatal(err)
	}
	old, err := c.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	r.RemoveCredentials(t, client.BearerFile)
	if _, err := c.Ping(t.Context(), wire.Ping{}); !strings.Contains(fault.FixOf(err), "token create "+string(clienttest.Host)) {
		t.Errorf("without a bearer: %v, fix %q", err, fault.FixOf(err))
	}
	r.RemoveCredentials(t, client.CAFile, client.PairFile)
	if _, err := c.Ping(t.Context(), wire.Ping{}); !errors.Is(err, client.ErrNoCredentials) {
		t.Errorf("got %v, want ErrNoCredentials", err)
	}
	if c.Ready() == nil {
		t.Error("ready without credentials")
	}
	r.IssueHost(t)
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	if _, err := c.Ping(t.Context(), wire.Ping{}); err != nil {
		t.Errorf("after renewal: %v", err)
	}
	if now, err := c.Certificate(); err != nil || now.Equal(old) {
		t.Errorf("the old certificate is still used (%v)", err)
	}
}

func TestRenewedCertificateIsShown(t *testing.T) {
	serials := make(chan string, 2)
	r, c := start(t, func(r *clienttest.Receiver) {
		r.OnPing = func(_ http.ResponseWriter, req *http.Request) bool {
			serials <- req.TLS.PeerCertificates[0].SerialNumber.String()
			return false
		}
	}, nil)
	ping := func() string {
		t.Helper()
		if _, err := c.Ping(t.Context(), wire.Ping{}); err != nil {
			t.Fatal(err)
		}
		return <-serials
	}
	first := ping()
	r.IssueHost(t)
	if second := ping(); first == second {
		t.Error("the connection of the old certificate is still used")
	}
}

func TestServerIsNotTheReceiver(t *testing.T) {
	another := clienttest.Start(t, nil)
	r := clienttest.Start(t, nil)
	for name, change := range map[string]func(*config.LabHost){
		"another CA":  func(c *config.LabHost) { c.Receiver.URL = another.URL },
		"wrong name":  func(c *config.LabHost) { c.Receiver.URL = "https://localhost" + r.URL[len("https://127.0.0.1"):] },
		"closed port": func(c *config.LabHost) { c.Receiver.URL = "https://127.0.0.1:1" },
	} {
		cfg := r.Config(t)
		change(&cfg)
		c, err := client.New(cfg, version.Info{})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Put(t.Context(), tarball([]byte("x")))
		if err == nil || client.Refusal(err) != nil || errors.Is(err, client.ErrTarball) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(another.Puts()); n != 0 {
		t.Errorf("%d episodes reached another server", n)
	}
}

func TestAsking(t *testing.T) {
	r, c := start(t, nil, nil)
	if _, _, err := c.Put(t.Context(), tarball([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	got, err := c.Reconcile(t.Context(), []wire.Pair{
		{Episode: episode, Digest: tarball([]byte("x")).Digest},
		{Episode: "01J0000000000000000000000B", Digest: tarball(nil).Digest},
	})
	if err != nil || len(got.Stored) != 1 || got.Stored[0] != episode {
		t.Errorf("reconcile: %+v, %v", got, err)
	}
	if err := c.PutHealth(t.Context(), []byte("{}")); err != nil {
		t.Error(err)
	}
	a, err := client.Anonymous(r.Config(t), version.Info{})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := a.Gate(t.Context(), commit); err != nil || !v.Accepted {
		t.Errorf("gate: %+v, %v", v, err)
	}
	if _, err := a.Get(t.Context(), "/nowhere", nil); !errors.Is(err, wire.ErrNotOurs) {
		t.Errorf("get: %v", err)
	}
}

func TestPingLies(t *testing.T) {
	_, c := start(t, func(r *clienttest.Receiver) {
		r.OnPing = func(w http.ResponseWriter, _ *http.Request) bool {
			clienttest.JSON(w, 200, map[string]any{"success": true})
			return true
		}
	}, nil)
	if _, err := c.Ping(context.Background(), wire.Ping{}); !errors.Is(err, wire.ErrNotOurs) {
		t.Errorf("got %v, want ErrNotOurs", err)
	}
}

// TestForeignAnswer: after a foreign answer the client does not reuse the connection,
// however long the peer keeps it open.
func TestForeignAnswer(t *testing.T) {
	html := func(status int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>Please log in.</html>")
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"page": html(200), "redirect": html(302), "not found": html(404), "forbidden": html(403),
		"empty":      func(w http.ResponseWriter) { w.WriteHeader(404) },
		"other JSON": func(w http.ResponseWriter) { clienttest.JSON(w, 200, map[string]any{"success": true}) },
	} {
		var from []string
		_, c := start(t, func(r *clienttest.Receiver) {
			r.OnPing = func(w http.ResponseWriter, q *http.Request) bool {
				if from = append(from, q.RemoteAddr); len(from) > 1 {
					return false
				}
				answer(w)
				return true
			}
		}, nil)
		if _, err := c.Ping(t.Context(), wire.Ping{}); !errors.Is(err, wire.ErrNotOurs) {
			t.Errorf("%s: got %v, want ErrNotOurs", name, err)
		}
		for range 2 {
			if _, err := c.Ping(t.Context(), wire.Ping{}); err != nil {
				t.Errorf("%s, and then the receiver: %v", name, err)
			}
		}
		if len(from) != 3 || from[0] == from[1] || from[1] != from[2] {
			t.Errorf("%s: asked from %v: want another connection after the foreign answer, and to stay on that", name, from)
		}
	}
}

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http logs each failed handshake
	os.Exit(m.Run())
}

// TestNotReady_OtherConnection: after one of several receivers is not ready, no connection to it
// is used again, as a balancer may lead a new one to another receiver. A single one leaves it open.
func TestNotReady_OtherConnection(t *testing.T) {
	for _, several := range []bool{false, true} {
		if same := sameAfterNotReady(t, several); same == several {
			t.Errorf("several receivers: %t; the same connection is used: %t", several, same)
		}
	}
}

func sameAfterNotReady(t *testing.T, closes bool) bool {
	from := make(chan string, 2)
	_, c := start(t, func(r *clienttest.Receiver) {
		r.OnPing = func(_ http.ResponseWriter, req *http.Request) bool { from <- req.RemoteAddr; return false }
		r.OnPut = func(w http.ResponseWriter, req *http.Request) bool {
			_, _ = io.Copy(io.Discard, req.Body)
			if closes {
				w.Header().Set("Connection", "close")
			}
			clienttest.Refuse(w, wire.NewProblem(wire.NotReady, "away"))
			return true
		}
	}, nil)
	ping := func() string {
		t.Helper()
		if _, err := c.Ping(t.Context(), wire.Ping{}); err != nil {
			t.Fatal(err)
		}
		return <-from
	}
	first := ping()
	if _, _, err := c.Put(t.Context(), tarball([]byte("x"))); client.Refusal(err) == nil {
		t.Fatal(err)
	}
	return ping() == first
}
