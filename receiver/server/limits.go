package server

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"cis490/internal/ident"
)

// slots are the places for uploads. One host gets at most a quarter of them, so
// that it cannot keep the others out.
type slots struct {
	mu      sync.Mutex
	all     int
	perHost int
	taken   int
	hosts   map[ident.Host]int
}

func newSlots(n int) *slots {
	return &slots{all: n, perHost: max(n/4, 1), hosts: map[ident.Host]int{}}
}

// enter takes a place, if there is one, and returns how to leave it.
func (s *slots) enter(h ident.Host) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.hosts[h] >= s.perHost {
		return nil, false
	}
	s.taken++
	s.hosts[h]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.hosts[h]--; s.hosts[h] == 0 {
			delete(s.hosts, h)
		}
	}, true
}

// The connections that are held at a time, in all and from one address (many
// hosts may share one behind a gateway).
const (
	maxConns        = 4096
	maxConnsAddress = 2500
	sayEvery        = time.Minute
)

// boundedListener turns connections away that would be too many; idle ones cost
// memory, and anyone can open them.
type boundedListener struct {
	net.Listener
	now func() time.Time
	log *slog.Logger

	mu     sync.Mutex
	total  int
	from   map[string]int
	said   time.Time
	turned int
}

func newBoundedListener(l net.Listener, now func() time.Time, log *slog.Logger) *boundedListener {
	return &boundedListener{Listener: l, now: now, log: log, from: map[string]int{}}
}

// Accept returns the next connection that there is room for.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			addr = c.RemoteAddr().String()
		}
		if l.enter(addr) {
			return &boundedConn{Conn: c, leave: func() { l.leave(addr) }}, nil
		}
		_ = c.Close() // turned away
	}
}

func (l *boundedListener) enter(addr string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total < maxConns && l.from[addr] < maxConnsAddress {
		l.total++
		l.from[addr]++
		return true
	}
	l.turned++
	if now := l.now(); now.Sub(l.said) >= sayEvery {
		l.log.Warn("connections turned away", "count", l.turned, "from", addr)
		l.said, l.turned = now, 0
	}
	return false
}

func (l *boundedListener) leave(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.from[addr]--; l.from[addr] == 0 {
		delete(l.from, addr)
	}
}

type boundedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close closes the connection and gives its place back.
func (c *boundedConn) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}
