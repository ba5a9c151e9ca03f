package listen

import (
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"
)

// from is an address of a client.
type from string

func (f from) Network() string { return "tcp" }
func (f from) String() string  { return string(f) }

// piped is a connection without traffic.
type piped struct {
	net.Conn
	remote from
}

func (p piped) RemoteAddr() net.Addr { return p.remote }

// none is a listener without connections.
type none struct{ net.Listener }

func (none) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// arrive opens connections from addresses and returns how many of each are left.
func arrive(t *testing.T, l *Listener, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = theirs.Close() })
		l.admit(piped{ours, from(a)})
	}
}

func (l *Listener) of(source string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unverified.groups[source])
}

func quiet(unverified int) *Listener {
	return New(none{}, Options{Unverified: unverified, Verified: 10, Log: slog.New(slog.DiscardHandler)})
}

// The addresses of one IPv6 network are one client: they evict each other's connections.
func TestPool_GroupsAddresses(t *testing.T) {
	l := quiet(8)
	arrive(t, l, "[2001:db8:0:1::1]:1", "192.0.2.7:1", "[2001:db8:0:2::1]:1", "[::ffff:192.0.2.8]:1")
	for i := range 200 {
		arrive(t, l, fmt.Sprintf("[2001:db8:0:9::%x]:1", i+1), fmt.Sprintf("203.0.113.5:%d", i+1))
	}
	for _, source := range []string{"2001:db8:0:1::/64", "192.0.2.7", "2001:db8:0:2::/64", "192.0.2.8"} {
		if l.of(source) != 1 {
			t.Errorf("%s lost its only connection", source)
		}
	}
	if a, b := l.of("2001:db8:0:9::/64"), l.of("203.0.113.5"); a != 2 || b != 2 {
		t.Errorf("the others have %d and %d connections, want 2 each", a, b)
	}
}

// With more addresses than places, each with one connection, an address of recently
// verified hosts is not the one that loses.
func TestPool_KnownAddressesStay(t *testing.T) {
	l := quiet(32)
	l.mu.Lock()
	l.known.add("192.0.2.7", "lab-01", time.Now())
	l.mu.Unlock()
	arrive(t, l, "192.0.2.7:1")
	for i := range 500 {
		arrive(t, l, fmt.Sprintf("10.0.%d.%d:1", i/250, i%250))
	}
	if l.of("192.0.2.7") != 1 {
		t.Error("it lost its connection")
	}
	if s := l.Stats(); s.Unverified != 32 || s.EvictedUnverified != 469 || s.Recent != 469 {
		t.Errorf("counted %+v", s)
	}
}

// Nothing that clients choose fills the memory: addresses, clients and counters are
// bounded.
func TestListener_RemembersABoundedNumber(t *testing.T) {
	l := quiet(16)
	for i := range 20_000 {
		arrive(t, l, fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>8, i&255))
		l.mu.Lock()
		l.known.add(fmt.Sprint("address ", i), fmt.Sprint("client ", i), time.Now())
		l.mu.Unlock()
	}
	l.handshakes.mu.Lock()
	defer l.handshakes.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.handshakes.sources) > maxSources || l.known.n > maxKnown || len(l.known.at) > maxKnown || len(l.unverified.groups) > 16 {
		t.Errorf("%d sources, %d known, %d groups", len(l.handshakes.sources), l.known.n, len(l.unverified.groups))
	}
	for _, s := range l.recent.slots {
		if len(s.from) > remembered {
			t.Errorf("%d addresses are counted in a minute", len(s.from))
		}
	}
	l.known.sweep(time.Now().Add(2 * knownFor))
	if l.known.n != 0 || len(l.known.at) != 0 {
		t.Errorf("%d are known for ever", l.known.n)
	}
}
