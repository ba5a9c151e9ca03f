package listen

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// balancer is the address of a balancer.
var balancer = netip.MustParsePrefix("127.0.0.9/32")

// announce sends a header with the client's address, as a balancer does.
func announce(t *testing.T, c net.Conn, client string) net.Conn {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)), c.LocalAddr())
	_, err := h.WriteTo(c)
	must(t, err)
	return c
}

// sources returns how many connections each address has.
func (f *fixture) sources() map[string]int {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	n := map[string]int{}
	for source, all := range f.l.unverified.groups {
		n[source] = len(all)
	}
	return n
}

// TestBalancer: a balancer's connections are those of the clients that it names. Others are
// not believed, and one that names nobody is closed.
func TestBalancer(t *testing.T) {
	f := newFixture(t, 8, 4, balancer)
	shake := func(c net.Conn) error {
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake()
	}
	for _, client := range []string{"192.0.2.1:4711", "192.0.2.1:4712", "[2001:db8::1]:4711"} {
		must(t, shake(announce(t, f.dial(9), client)))
	}
	must(t, shake(f.dial(8))) // not through the balancer
	if got := f.sources(); got["192.0.2.1"] != 2 || got["127.0.0.8"] != 1 || got["127.0.0.9"] != 0 || len(got) != 3 {
		t.Errorf("connections: %v", got)
	}
	if err := shake(f.dial(9)); err == nil {
		t.Error("a balancer's connection without a header was accepted")
	}
	if err := shake(announce(t, f.dial(8), "192.0.2.9:1")); err == nil {
		t.Error("a client's own header was accepted")
	}
}

// TestBalancer_Silent: connections whose header does not arrive are bounded, and take no
// place of others.
func TestBalancer_Silent(t *testing.T) {
	f := newFixture(t, 8, 4, balancer)
	for range unannounced {
		f.dial(9)
	}
	for deadline := time.Now().Add(10 * time.Second); len(f.l.headers) < unannounced; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections wait", len(f.l.headers))
		}
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	if c, err := d.Dial("tcp", f.addr); err == nil { // otherwise it was reset before
		closed(t, c)
	}
	must(t, tls.Client(f.dial(8), &tls.Config{InsecureSkipVerify: true}).Handshake())
	if got := f.sources(); len(got) != 1 {
		t.Errorf("connections: %v", got)
	}
}
