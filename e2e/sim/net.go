package sim

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// half is one direction of a connection.
type half struct {
	mu       sync.Mutex
	cond     *sync.Cond
	buf      []byte
	ended    bool // closed by its writer
	reset    bool
	deadline time.Time
	arrives  time.Time // arrival of the bytes in buf
}

func newHalf() *half { h := &half{}; h.cond = sync.NewCond(&h.mu); return h }

func (h *half) wake() { h.mu.Lock(); h.cond.Broadcast(); h.mu.Unlock() }

// conn is one end of a connection.
type conn struct {
	in, out *half
	peer    *conn
	link    *Link
	server  bool
	asked   int  // bytes received since this end wrote last; guarded by the link
	upload  bool // it requested a body; guarded by the link
	here    net.Addr
	there   net.Addr
	once    sync.Once
}

type addr string

func (a addr) Network() string { return "tcp" }
func (a addr) String() string  { return string(a) }

// pair returns both ends of a connection; a is the client's.
func pair(l *Link, from, to string) (a, b *conn) {
	x, y := newHalf(), newHalf()
	a = &conn{in: x, out: y, link: l, here: addr(from), there: addr(to)}
	b = &conn{in: y, out: x, link: l, server: true, here: addr(to), there: addr(from)}
	a.peer, b.peer = b, a
	l.mu.Lock()
	l.conns[a] = true
	l.mu.Unlock()
	return a, b
}

func (c *conn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.reset:
			return 0, syscall.ECONNRESET
		case !h.deadline.IsZero() && !time.Now().Before(h.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0 && !c.link.stalled() && !time.Now().Before(h.arrives):
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			return n, nil
		case len(h.buf) == 0 && h.ended:
			return 0, io.EOF
		}
		h.wait()
	}
}

// wait waits for a change or the deadline. The caller holds the lock.
func (h *half) wait() {
	until := h.deadline
	if now := time.Now(); len(h.buf) > 0 && h.arrives.After(now) && (until.IsZero() || h.arrives.Before(until)) {
		until = h.arrives
	}
	if !until.IsZero() {
		t := time.AfterFunc(time.Until(until), h.wake)
		defer t.Stop()
	}
	h.cond.Wait()
}

// Write never waits: net/http writes while it holds a mutex, and a bubble's time does not
// advance while another goroutine waits for a mutex. A slow link delays the reader.
func (c *conn) Write(p []byte) (int, error) {
	slow, n, cut := c.link.carry(c, len(p))
	h := c.out
	h.mu.Lock()
	if h.reset || h.ended {
		h.mu.Unlock()
		return 0, syscall.EPIPE
	}
	if slow > 0 {
		h.arrives = later(h.arrives, time.Now()).Add(slow)
	}
	h.buf = append(h.buf, p[:n]...)
	h.cond.Broadcast()
	h.mu.Unlock()
	if cut {
		c.Reset()
		c.link.broke()
		return n, syscall.ECONNRESET
	}
	return len(p), nil
}

// Close closes both directions.
func (c *conn) Close() error { c.end(false); return nil }

// Reset aborts both directions.
func (c *conn) Reset() { c.end(true) }

func (c *conn) end(reset bool) {
	for _, h := range []*half{c.in, c.out} {
		h.mu.Lock()
		h.ended = true
		h.reset = h.reset || reset || h == c.in
		h.cond.Broadcast()
		h.mu.Unlock()
	}
	c.once.Do(func() {
		a := c
		if c.server {
			a = c.peer
		}
		c.link.mu.Lock()
		delete(c.link.conns, a)
		c.link.mu.Unlock()
	})
}

// Caller returns root: only people on the machine use a socket.
func (c *unixConn) Caller() unix.Ucred { return unix.Ucred{} }

// unixConn is a connection to a Unix socket.
type unixConn struct{ *conn }

func (c *conn) LocalAddr() net.Addr  { return c.here }
func (c *conn) RemoteAddr() net.Addr { return c.there }

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline extends a server's wait for the next request by a ping's interval, so that
// connections are reused: handshakes would dominate the cost of a run.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.server && time.Until(t) > 80*time.Second {
		t = time.Now().Add(c.link.kept)
	}
	c.in.mu.Lock()
	c.in.deadline = t
	c.in.cond.Broadcast()
	c.in.mu.Unlock()
	return nil
}

// SetWriteDeadline does nothing: a Write never waits.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// listener is a listener of a process.
type listener struct {
	p     *Proc
	at    string
	ch    chan net.Conn
	done  chan struct{}
	once  sync.Once
	local bool
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.p.m.w.mu.Lock()
		defer l.p.m.w.mu.Unlock()
		if l.p.m.w.listeners[l.at] == l {
			delete(l.p.m.w.listeners, l.at)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.at) }

// Listen opens a listener at a port of the machine.
func (p *Proc) Listen(_, address string) (net.Listener, error) {
	return p.listen(p.m.name+address, false)
}

// listenAdmin opens a listener at a socket's path.
func (p *Proc) listenAdmin(path string) (net.Listener, error) { return p.listen(path, true) }

func (p *Proc) listen(address string, local bool) (net.Listener, error) {
	l := &listener{p: p, local: local, at: address, ch: make(chan net.Conn), done: make(chan struct{})}
	w := p.m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead.Load() {
		return nil, net.ErrClosed
	}
	if w.listeners[address] != nil {
		return nil, syscall.EADDRINUSE
	}
	w.listeners[address] = l
	p.listeners = append(p.listeners, l)
	return l, nil
}

// Dial connects as net.Dialer does, over the machine's link.
func (p *Proc) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	if p.dead.Load() {
		return nil, net.ErrClosed
	}
	w, link := p.m.w, p.m.link
	link.mu.Lock()
	way := link.way
	link.mu.Unlock()
	w.mu.Lock()
	l := w.listeners[address]
	if way == Portal {
		l = nil
	}
	w.mu.Unlock()
	off := p.m != w.rx && !w.rx.On()
	if way == Hole || off {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.ctx.Done():
			return nil, net.ErrClosed
		case <-time.After(127 * time.Second): // the timeout of Linux
			return nil, syscall.ETIMEDOUT
		}
	}
	time.Sleep(time.Millisecond) // a failure takes time
	if way == Portal {
		a, b := pair(link, p.m.ip, address)
		_, _ = b.Write([]byte("HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n"))
		_ = b.Close()
		return a, nil
	}
	if way == Refuse || l == nil {
		return nil, syscall.ECONNREFUSED
	}
	a, b := pair(link, p.m.ip, address)
	if !p.holds(a) || !l.p.holds(b) {
		a.Reset()
		return nil, syscall.ECONNREFUSED
	}
	var end net.Conn = b
	if l.local {
		end = &unixConn{b}
	}
	select {
	case l.ch <- end:
		return a, nil
	case <-l.done:
	case <-ctx.Done():
	}
	a.Reset()
	return nil, syscall.ECONNREFUSED
}
