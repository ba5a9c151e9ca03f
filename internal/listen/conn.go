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

// What an unverified client may send for a request, in bytes as they come: until a
// handler has it a header, from then on a small body; each may end within a record of
// 16 KiB. crypto/tls would keep 256 KiB of a message of the handshake that comes after
// it, and decrypt records of one byte for as long as they come.
const (
	headBytes = 20 << 10
	bodyBytes = 36 << 10
)

// errTooLong reports a client that sends more than handshakeBytes before the handshake
// is done, or than a request may have.
var errTooLong = errors.New("more bytes than an unverified client may send")

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

	budget   atomic.Int64 // bytes that may be read of an unverified client
	shaking  bool         // the handshake is in progress; only its goroutine reads
	handling atomic.Bool  // a handler has a request of it
}

// Close closes the connection and gives its place back.
func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.forget(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// Read reads. Of an unverified client it reads a bounded number of bytes, and during
// the handshake it gives the place among those that compute back while it waits.
func (c *conn) Read(p []byte) (int, error) {
	if c.client.Load() != nil {
		return c.Conn.Read(p)
	}
	left := c.budget.Load()
	if left <= 0 {
		return 0, errTooLong
	}
	p = p[:min(int64(len(p)), left)]
	if c.shaking {
		c.l.computing.give()
		defer c.l.computing.take(c.source)
	}
	n, err := c.Conn.Read(p)
	c.budget.Add(int64(-n))
	return n, err
}

// handle notes that a handler has a request of the connection.
func (c *conn) handle() {
	c.served.Add(1)
	c.budget.Store(bodyBytes)
	c.handling.Store(true)
}

// handled notes that the handler is done.
func (c *conn) handled() {
	c.handling.Store(false)
	c.budget.Store(headBytes)
}

// SetReadDeadline sets until when a Read may wait. Before a handler has its request, an
// unverified client has a deadline also where net/http, which answers some requests by
// itself, wants none.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() && !c.handling.Load() && c.client.Load() == nil {
		t = time.Now().Add(answerTimeout)
	}
	return c.Conn.SetReadDeadline(t)
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
	c.budget.Store(headBytes)
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
