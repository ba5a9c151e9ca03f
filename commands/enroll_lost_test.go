package commands_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// line is a network that breaks after so many bytes towards the client, over all
// connections, and stays broken until it is repaired.
type line struct {
	listener net.Listener
	to       string

	mu   sync.Mutex
	left int // bytes until it breaks; negative: never
	sent int
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{listener: l, to: to, left: -1}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.carry(c) })
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return n
}

// breakAfter sets the bytes until it breaks and returns how many it carried before.
func (n *line) breakAfter(bytes int) (sent int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sent = n.sent
	n.left, n.sent = bytes, 0
	return sent
}

// take returns how many of so many bytes may pass.
func (n *line) take(bytes int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.left >= 0 {
		bytes = min(bytes, n.left)
		n.left -= bytes
	}
	n.sent += bytes
	return bytes
}

func (n *line) carry(c net.Conn) {
	defer func() { _ = c.Close() }()
	s, err := net.Dial("tcp", n.to)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	go func() {
		_, _ = io.Copy(s, c)
		_ = s.(*net.TCPConn).CloseWrite()
	}()
	b := make([]byte, 64<<10)
	for {
		got, err := s.Read(b)
		pass := n.take(got)
		if _, werr := c.Write(b[:pass]); werr != nil || pass < got || err != nil {
			return
		}
	}
}

// TestEnrolment_AnswerLostAtEveryPoint: real authority, real host, and a network that
// breaks at any point of the authority's answer: in a handshake, within the certificate,
// before its last byte. A second request with the same key succeeds, and the host's
// credentials are those in the roster.
func TestEnrolment_AnswerLostAtEveryPoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := config.DefaultReceiver().Authority
	c.Listen, c.URL, c.Dir, c.Socket = "127.0.0.1:0", "https://127.0.0.1:0", filepath.Join(dir, "authority"), filepath.Join(dir, "admin.sock")
	silent := slog.New(slog.DiscardHandler)
	auth, err := authority.New(authority.Options{Config: c, PublicURL: "https://127.0.0.1:1", FS: disk.OS{}, Log: silent, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- auth.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, auth.Close()); err != nil {
			t.Error(err)
		}
	})
	net := newLine(t, auth.Addr().String())
	url := "https://" + net.listener.Addr().String()

	// join makes a host whose network breaks after so many bytes; whole reports that it did
	// not.
	var total, lost, unheard int
	join := func(h ident.Host, bytes int) (whole bool) {
		made, err := authority.NewClient(c.Socket).CreateTokens(ctx, authority.TokenRequest{Hosts: []ident.Host{h}})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := wire.ParseToken(made[0].Token)
		if err != nil {
			t.Fatal(err)
		}
		tok.Authority = url
		certs := filepath.Join(dir, string(h))
		if err := os.Mkdir(certs, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(certs, enroll.TokenFile), []byte(tok.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := enroll.New(enroll.Options{
			FS: disk.OS{}, Dir: certs, Host: h, Authority: url, Log: silent, Now: time.Now,
			Probe: func(context.Context, string) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		net.breakAfter(bytes)
		first, err := e.Run(ctx, false)
		whole = err == nil
		if known := hostOf(t, c.Dir, h); err != nil && known.State == roster.Active {
			lost++ // it was issued, and nobody got it
		} else if err != nil {
			unheard++
		}
		total = net.breakAfter(-1)
		again, err := e.Run(ctx, false)
		if err != nil || (whole && again != enroll.Nothing) || (!whole && again != enroll.Enrolled) {
			t.Errorf("cut after %d bytes: %q, then %q, %v", bytes, first, again, err)
			return whole
		}
		pair, err := pki.NewPair(disk.OS{}, filepath.Join(certs, client.PairFile)).Get()
		if err != nil {
			t.Fatal(err)
		}
		bearer, err := os.ReadFile(filepath.Join(certs, client.BearerFile))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(strings.TrimSpace(string(bearer))))
		known := hostOf(t, c.Dir, h)
		if !known.Valid(pki.Serial(pair.Leaf)) || known.Bearer != ident.Digest(hex.EncodeToString(sum[:])) {
			t.Errorf("cut after %d bytes: what the host holds is not what the roster knows", bytes)
		}
		if !known.Misused.IsZero() {
			t.Errorf("cut after %d bytes: the host was taken for a thief of its own token", bytes)
		}
		return whole
	}
	if !join("lab-whole", -1) || total == 0 {
		t.Fatal("a whole line does not carry an enrollment")
	}
	size, points := total, 60
	for i := range points {
		if join(ident.Host(fmt.Sprintf("lab-%d", i)), i*size/points) {
			t.Errorf("cut after %d of %d bytes, and nothing was lost", i*size/points, size)
		}
	}
	join("lab-last", size-1)
	t.Logf("%d bytes, cut at %d points: %d answers lost after the issue, %d requests cut before it", size, points+1, lost, unheard)
	if lost < 3 || unheard < 3 {
		t.Error("want cuts both before and after the certificate was issued")
	}
}

func hostOf(t *testing.T, dir string, h ident.Host) roster.Host {
	t.Helper()
	known, _, err := local.Roster(disk.OS{}, dir).Host(h)
	if err != nil {
		t.Fatal(err)
	}
	return known
}
