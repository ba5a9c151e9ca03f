// Package listen bounds the resources of unverified clients: connections, handshakes, bytes
// and time of a request, and log lines.
//
// A connection is unverified until a request on it verifies its client; see Verified.
// Unverified and verified connections have separate pools. When a pool is full, a new
// connection replaces the oldest one of the address (or client) with the most connections,
// even in the middle of a request; so clients with many connections evict each other, and
// not a client with few. An address with recently verified clients may have as many more.
// All state is in memory, and a crash closes all connections.
package listen

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

// spareFiles is the number of descriptors reserved for files.
const spareFiles = 512

// sayEvery is the shortest interval between log lines about connections.
const sayEvery = time.Minute

// Options configure a Listener.
type Options struct {
	TLS        *tls.Config
	Unverified int // maximum of unverified connections
	Verified   int // maximum of verified connections
	// Balancers begin their connections with a PROXY protocol header, which is believed.
	Balancers []netip.Prefix
	Log       *slog.Logger
}

// Listener accepts TLS connections whose handshake is complete.
type Listener struct {
	inner net.Listener
	o     Options
	ready chan net.Conn
	done  chan struct{}
	once  sync.Once

	computing  *turns // turns for handshakes
	answering  *turns // turns for requests
	handshakes *Limiter
	evictions  *Lines
	unread     *Lines
	headers    chan struct{} // one for each header that is awaited

	mu         sync.Mutex
	seq        uint64 // of the last connection
	unverified pool
	verified   pool
	transfers  int
	known      known
	counts     counts
	recent     recent
}

// New returns a listener on top of a TCP listener. If the process may open few descriptors,
// it reduces the pools.
func New(inner net.Listener, o Options) *Listener {
	var limit unix.Rlimit
	all := o.Unverified + o.Verified
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < uint64(all+spareFiles) {
		few := max(int(limit.Cur)-spareFiles, 32)
		o.Unverified = max(o.Unverified*few/all, 8)
		o.Verified = few - o.Unverified
	}
	l := &Listener{
		inner: inner, o: o, ready: make(chan net.Conn), done: make(chan struct{}),
		computing: newTurns(max(1, runtime.GOMAXPROCS(0)/2)), answering: newTurns(max(1, runtime.GOMAXPROCS(0)/2)),
		handshakes: NewLimiter(handshakeBurst, handshakeEvery, time.Now),
		evictions:  NewLines(1, sayEvery), unread: NewLines(1, sayEvery),
		headers: make(chan struct{}, unannounced),
		known:   newKnown(),
		recent:  newRecent(),
	}
	// An address with very many clients must not take the whole pool.
	most := max(1, o.Unverified/16)
	l.unverified = newPool(o.Unverified, func(source string) int { return min(1+l.known.clients(source), most) })
	l.verified = newPool(o.Verified, func(string) int { return 1 })
	go l.accept()
	return l
}

// Addr returns the listener's address.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops listening. Connections that Accept returned stay open.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.inner.Close()
}

// Accept returns the next connection whose handshake is complete, a *tls.Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// accept accepts connections until the listener is closed.
func (l *Listener) accept() {
	const first, last = 5 * time.Millisecond, time.Second
	for wait := first; ; {
		c, err := l.inner.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			l.once.Do(func() { close(l.done) })
			return
		case err != nil: // out of descriptors, for example: wait
			select {
			case <-l.done:
				return
			case <-time.After(wait):
			}
			wait = min(2*wait, last)
		default:
			wait = first
			if l.fromBalancer(c) {
				go l.announced(c)
				continue
			}
			l.admit(c)
		}
	}
}

// admit adds a new connection to the pool and starts its handshake, or closes it.
func (l *Listener) admit(raw net.Conn) {
	from := Source(raw.RemoteAddr().String())
	if !l.handshakes.Allow(from) {
		l.mu.Lock()
		l.counts.refused++
		l.recent.add(from, time.Now())
		l.mu.Unlock()
		reset(raw)
		return
	}
	c := &conn{Conn: raw, l: l, source: from, shaking: true}
	c.budget.Store(handshakeBytes)
	l.mu.Lock()
	l.seq++
	c.seq = l.seq
	victim := l.unverified.add(c, from, 0)
	l.evict(victim)
	l.mu.Unlock()
	if victim != nil {
		reset(victim.Conn)
	}
	go l.handshake(c)
}

// evict removes a connection that lost its place and counts it. It requires the lock. The
// caller resets the connection after it releases the lock.
func (l *Listener) evict(c *conn) {
	if c == nil {
		return
	}
	state := &l.counts.evictedUnverified
	if c.pool == &l.verified {
		state = &l.counts.evictedVerified
	} else {
		l.recent.add(c.source, time.Now())
	}
	*state++
	l.forget(c)
	if omitted, ok := l.evictions.Next(); ok {
		l.o.Log.Warn("too many connections: the oldest of the address with most was closed", "count", omitted+1, "from", c.source)
	}
}

// forget frees a connection's place. It requires the lock.
func (l *Listener) forget(c *conn) {
	switch {
	case c.pool == &l.verified:
		l.known.add(c.source, c.group, time.Now())
		c.pool.remove(c)
	case c.pool != nil:
		c.pool.remove(c)
	case !c.gone:
		l.transfers--
	}
	c.gone = true
}

// move moves a connection to another pool; nil is the pool of transfers.
func (l *Listener) move(c *conn, to *pool, group string, limit int) {
	l.mu.Lock()
	if c.gone || c.pool == to && c.group == group {
		l.mu.Unlock()
		return
	}
	if c.pool != nil {
		c.pool.remove(c)
	} else {
		l.transfers--
	}
	var victim *conn
	if to == nil {
		l.transfers++
	} else {
		if to == &l.verified {
			l.known.add(c.source, group, time.Now())
		}
		victim = to.add(c, group, limit)
		l.evict(victim)
	}
	l.mu.Unlock()
	if victim != nil {
		reset(victim.Conn)
	}
}

// reset closes a connection at once and discards unsent data, even if the client reads
// nothing.
func reset(c net.Conn) {
	if p, ok := c.(*proxyproto.Conn); ok {
		c = p.Raw()
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // the close works anyway
	}
	_ = c.Close() // its handler gets an error
}
