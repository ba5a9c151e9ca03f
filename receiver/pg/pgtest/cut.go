package pgtest

import (
	"net"
	"sync"
	"testing"
)

// Way is a direction through a Cutter.
type Way int

// The directions.
const (
	ToServer Way = iota
	ToClient
)

// Cutter is a proxy that closes a connection after a number of bytes.
type Cutter struct {
	Addr string

	mu    sync.Mutex
	left  [2]int // bytes that still pass; -1: no limit
	moved [2]int // since Arm
}

// NewCutter starts a proxy before an address. It ends with the test.
func NewCutter(t testing.TB, target string) *Cutter {
	t.Helper()
	c := &Cutter{left: [2]int{-1, -1}}
	c.Addr = proxy(t, target, c.pass)
	return c
}

// proxy listens before an address until the test ends, and passes both ways of each connection.
func proxy(t testing.TB, target string, pass func(w Way, to, from net.Conn)) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
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
			go pass(ToServer, server, client)
			go pass(ToClient, client, server)
		}
	}()
	return l.Addr().String()
}

// Arm cuts the connection on which the byte after the n-th moves, once. With n -1 it only
// counts.
func (c *Cutter) Arm(w Way, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.moved = [2]int{-1, -1}, [2]int{}
	c.left[w] = n
}

// Moved returns how many bytes moved since Arm.
func (c *Cutter) Moved(w Way) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved[w]
}

// allow returns how many of n bytes may pass, and whether the connection is cut then.
func (c *Cutter) allow(w Way, n int) (may int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved[w] += n
	switch left := c.left[w]; {
	case left < 0:
		return n, false
	case n > left:
		c.left[w] = -1 // once
		return left, true
	default:
		c.left[w] -= n
		return n, false
	}
}

func (c *Cutter) pass(w Way, to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		may, cut := c.allow(w, n)
		if _, e := to.Write(buf[:may]); e != nil || err != nil || cut {
			return
		}
	}
}
