package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// What a handshake may cost. An address may begin so many at once (many hosts may
// share one behind a gateway), and then one each handshakeEvery.
const (
	handshakeTimeout = 10 * time.Second
	handshakeBytes   = 16 << 10 // a ClientHello and a chain of a few certificates
	handshakeBurst   = 1000
	handshakeEvery   = 10 * time.Millisecond
)

// errTooLong reports a client that sends more than handshakeBytes before it is done.
var errTooLong = errors.New("the handshake is longer than any that a host sends")

// conn is a TCP connection under TLS.
type conn struct {
	net.Conn
	l      *Listener
	source string
	seq    uint64

	pool   *pool // these three are guarded by the listener's lock
	group  string
	gone   bool
	client atomic.Pointer[string] // who was verified on it; nil: nobody

	idle          atomic.Bool  // waits for a request after another
	begun, served atomic.Int64 // requests whose first byte came, and those that a handler got

	budget  int  // bytes that may be read before the handshake ends
	shaking bool // the handshake is in progress; only its goroutine reads
}

// Close closes the connection and gives its place back.
func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.forget(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// Read reads. During the handshake it reads a bounded number of bytes, and gives
// the place among those that compute back while it waits for them.
func (c *conn) Read(p []byte) (int, error) {
	if !c.shaking {
		return c.Conn.Read(p)
	}
	if c.budget <= 0 {
		return 0, errTooLong
	}
	c.l.computing.give()
	n, err := c.Conn.Read(p[:min(len(p), c.budget)])
	c.l.computing.take(c.source)
	c.budget -= n
	return n, err
}

// handshake completes a connection's handshake and hands it to Accept.
func (l *Listener) handshake(c *conn) {
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout)) // fails where it was evicted: so does the handshake
	t := tls.Server(c, l.o.TLS)
	l.computing.take(c.source)
	l.mu.Lock()
	gone := c.gone
	l.mu.Unlock()
	if gone { // while it waited
		l.computing.give()
		return
	}
	err := t.HandshakeContext(context.Background())
	l.computing.give()
	if err != nil {
		l.mu.Lock()
		if !c.gone {
			l.counts.failed(err)
		}
		l.mu.Unlock()
		_ = t.Close() // it failed already
		return
	}
	c.shaking = false
	_ = c.SetDeadline(time.Time{}) // as above
	select {
	case l.ready <- t:
	case <-l.done:
		_ = t.Close() // nobody serves it
	}
}

// failed counts a handshake that was not completed.
func (n *counts) failed(err error) {
	switch {
	case errors.Is(err, errTooLong):
		n.handshakesTooLong++
	case errors.Is(err, os.ErrDeadlineExceeded):
		n.handshakesTimedOut++
	default:
		n.handshakesBroken++
	}
}

// connOf returns the connection under TLS; nil for one of another listener.
func connOf(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	in, _ := c.(*conn)
	return in
}
