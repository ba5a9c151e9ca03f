package listen

import (
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// unannounced bounds a balancer's connections whose header has not arrived.
const unannounced = 256

// fromBalancer reports whether a balancer opened the connection.
func (l *Listener) fromBalancer(raw net.Conn) bool {
	at, err := netip.ParseAddrPort(raw.RemoteAddr().String())
	if err != nil {
		return false
	}
	for _, p := range l.o.Balancers {
		if p.Contains(at.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// announced reads the PROXY protocol header with which a balancer begins a connection, and
// admits the connection as one of the client that the header names. One without a header is
// closed: its client would share the balancer's limits.
func (l *Listener) announced(raw net.Conn) {
	select {
	case l.headers <- struct{}{}:
		defer func() { <-l.headers }()
	default:
		reset(raw)
		return
	}
	c := proxyproto.NewConn(raw, proxyproto.SetReadHeaderTimeout(headerTimeout))
	c.ProxyHeaderPolicy = proxyproto.REQUIRE
	if c.ProxyHeader() == nil {
		reset(raw)
		if omitted, ok := l.unread.Next(); ok {
			l.o.Log.Warn("a balancer's connection has no PROXY header", "count", omitted+1, "from", Source(raw.RemoteAddr().String()),
				"fix", "send-proxy-v2 in haproxy.cfg, or remove the address from [balancer] from in receiver.toml")
		}
		return
	}
	l.admit(c)
}
