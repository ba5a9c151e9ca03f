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
	h := &Hole{}
	h.opened = sync.NewCond(&h.mu)
	h.Addr = proxy(t, target, h.pass)
	t.Cleanup(func() { h.Set(false) })
	return h
}

// Set closes or opens the proxy.
func (h *Hole) Set(closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = closed
	h.opened.Broadcast()
}

func (h *Hole) pass(_ Way, to, from net.Conn) {
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
