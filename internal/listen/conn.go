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

// The cost of handshakes. An address may begin handshakeBurst of them at once, because many
// hosts may share one behind a gateway, and then one each handshakeEvery.
const (
	handshakeTimeout = 10 * time.Second
	handshakeBytes   = 16 << 10 // a ClientHello and a chain of a few certificates
	handshakeBurst   = 1000
	handshakeEvery   = 10 * time.Millisecond
)

// The bytes that an unverified client may send per request: a header before a handler runs,
// then a small body; each limit includes a TLS record of 16 KiB. crypto/tls alone would
// buffer 256 KiB of a post-handshake message, and decrypt one-byte records without end.
const (
	headBytes = 20 << 10
	bodyBytes = 36 << 10
)

// errTooLong means that a client sent more than handshakeBytes during the handshake, or
// more than a request may have.
var errTooLong = errors.New("more bytes than an unverified client may send")

// conn is the TCP connection below TLS.
type conn struct {
	net.Conn
	l      *Listener
	source string
	seq    uint64

	pool   *pool // the listener's lock guards pool, group and gone
	group  string
	gone   bool
	client atomic.Pointer[string] // the verified client; nil: none

	idle          atomic.Bool  // waits for the next request
	begun, served atomic.Int64 // requests received, and requests passed to a handler

	budget   atomic.Int64 // bytes that may still be read from an unverified client
	shaking  bool         // the handshake is in progress; only its goroutine reads
	handling atomic.Bool  // a handler is running
}

// Close closes the connection and frees its place.
func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.forget(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// Read reads a bounded number of bytes from an unverified client. During the handshake it
// gives up its computing turn while it waits.
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

// handle records that a handler runs for a request of the connection.
func (c *conn) handle() {
	c.served.Add(1)
	c.budget.Store(bodyBytes)
	c.handling.Store(true)
}

// handled records that the handler has returned.
func (c *conn) handled() {
	c.handling.Store(false)
	c.budget.Store(headBytes)
}

// SetReadDeadline sets the deadline of Read. Until a handler runs, an unverified client has
// a deadline even where net/http, which answers some requests itself, sets none.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() && !c.handling.Load() && c.client.Load() == nil {
		t = time.Now().Add(answerTimeout)
	}
	return c.Conn.SetReadDeadline(t)
}

// handshake completes a connection's handshake and passes it to Accept.
func (l *Listener) handshake(c *conn) {
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout)) // fails after an eviction, as does the handshake
	t := tls.Server(c, l.o.TLS)
	l.computing.take(c.source)
	l.mu.Lock()
	gone := c.gone
	l.mu.Unlock()
	if gone { // evicted while it waited
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
		_ = t.Close() // the handshake's error matters
		return
	}
	c.shaking = false
	c.budget.Store(headBytes)
	_ = c.SetDeadline(time.Time{}) // as above
	select {
	case l.ready <- t:
	case <-l.done:
		_ = t.Close() // the listener is closed
	}
}

// failed counts a failed handshake by its cause.
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

// connOf returns the connection below TLS, or nil for one of another listener.
func connOf(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	in, _ := c.(*conn)
	return in
}
