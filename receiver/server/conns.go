package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The connections that are held at a time, in all and from one address (many
// hosts may share one behind a gateway), and the descriptors left for files.
const (
	maxConns        = 4096
	maxConnsAddress = 2500
	spareFiles      = 512
	sayEvery        = time.Minute
)

// crowd bounds connections, which cost memory and which anyone can open. Where
// there are as many as may be, a newcomer takes the place of the one that has
// waited longest without a request, of the address that has most; so those who
// only hold connections keep nobody out.
type crowd struct {
	net.Listener
	max int
	now func() time.Time
	log *slog.Logger

	mu             sync.Mutex
	total          int
	from           map[string]int
	waiting        []*conn // without a request, longest first
	turned, unread rarely
}

func newCrowd(l net.Listener, now func() time.Time, log *slog.Logger) *crowd {
	c := &crowd{Listener: l, max: maxConns, now: now, log: log, from: map[string]int{}}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < maxConns+spareFiles {
		c.max = max(int(limit.Cur)-spareFiles, 32)
	}
	return c
}

// Accept returns the next connection that there is room for.
func (l *crowd) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			addr = c.RemoteAddr().String()
		}
		if in := l.enter(c, addr); in != nil {
			return in, nil
		}
		_ = c.Close() // turned away
	}
}

func (l *crowd) enter(c net.Conn, addr string) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.from[addr] >= maxConnsAddress
	if full || l.total >= l.max {
		if n, say := l.turned.note(l.now()); say {
			l.log.Warn("too many connections", "count", n, "from", addr)
		}
		if full || !l.evict() {
			return nil
		}
	}
	in := &conn{Conn: c, l: l, addr: addr}
	l.total++
	l.from[addr]++
	l.waiting = append(l.waiting, in)
	return in
}

// evict closes a connection that only waits.
func (l *crowd) evict() bool {
	most := 0
	for _, n := range l.from {
		most = max(most, n)
	}
	i := slices.IndexFunc(l.waiting, func(c *conn) bool { return l.from[c.addr] == most })
	if i < 0 && len(l.waiting) > 0 {
		i = 0
	}
	if i < 0 {
		return false
	}
	c := l.waiting[i]
	l.drop(c)
	_ = c.Conn.Close() // whoever serves it learns of it
	return true
}

// drop forgets a connection; the lock is held.
func (l *crowd) drop(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	l.wait(c, false)
	l.total--
	if l.from[c.addr]--; l.from[c.addr] == 0 {
		delete(l.from, c.addr)
	}
}

func (l *crowd) wait(c *conn, waits bool) {
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	if waits && !c.gone {
		l.waiting = append(l.waiting, c)
	}
}

// conn is a connection in the crowd.
type conn struct {
	net.Conn
	l    *crowd
	addr string
	gone bool // guarded by the crowd's lock
	// begun and read count requests: those whose first byte came, and those that a
	// handler got.
	begun, read atomic.Int64
}

// Close closes the connection and gives its place back.
func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.drop(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// connOf returns the connection under TLS; nil for one of another listener.
func connOf(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	in, _ := c.(*conn)
	return in
}

// connState follows what the connections do, for http.Server.
func connState(c net.Conn, state http.ConnState) {
	in := connOf(c)
	if in == nil {
		return
	}
	l := in.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateActive:
		in.begun.Add(1)
		l.wait(in, false)
	case http.StateIdle:
		l.wait(in, true)
	case http.StateClosed:
		// What net/http refuses by itself no handler sees; of HTTP/2 it says nothing.
		if t, ok := c.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" || in.begun.Load() <= in.read.Load() {
			return
		}
		if n, say := l.unread.note(l.now()); say {
			l.log.Info("request that cannot be read", "count", n, "from", in.addr)
		}
	}
}

type connKey struct{}

// withConn lets a request find its connection.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, connOf(c))
}

// readOf notes that a handler got the request.
func readOf(r *http.Request) {
	if c, _ := r.Context().Value(connKey{}).(*conn); c != nil {
		c.read.Add(1)
	}
}

// rarely says a thing that may come very often at most once per minute.
type rarely struct {
	said  time.Time
	count int
}

func (r *rarely) note(now time.Time) (count int, say bool) {
	r.count++
	if now.Sub(r.said).Abs() < sayEvery {
		return 0, false
	}
	count, r.said, r.count = r.count, now, 0
	return count, true
}
