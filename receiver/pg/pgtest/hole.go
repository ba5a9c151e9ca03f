package pgtest

import (
	"net"
	"sync"
	"testing"
)

// Hole is a proxy that keeps what it gets while it is closed, as a network that drops all
// packets does.
type Hole struct {
	Addr string

	mu     sync.Mutex
	opened *sync.Cond
	closed bool
}

// NewHole starts an open proxy before an address. It ends with the test.
func NewHole(t testing.TB, target string) *Hole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback, in a test
	if err != nil {
		t.Fatal(err)
	}
	h := &Hole{Addr: l.Addr().String()}
	h.opened = sync.NewCond(&h.mu)
	t.Cleanup(func() { _ = l.Close(); h.Set(false) })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target) //nolint:noctx // loopback, in a test
			if err != nil {
				_ = client.Close()
				continue
			}
			go h.pass(server, client)
			go h.pass(client, server)
		}
	}()
	return h
}

// Set closes or opens the proxy.
func (h *Hole) Set(closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = closed
	h.opened.Broadcast()
}

func (h *Hole) pass(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		h.mu.Lock()
		for h.closed {
			h.opened.Wait()
		}
		h.mu.Unlock()
		if _, e := to.Write(buf[:n]); e != nil || err != nil {
			return
		}
	}
}
