// Package dial connects to servers that must not keep their callers waiting when their machine
// or the network between has gone.
package dial

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// GoneAfter is how long a connection may take, and how long what was sent may stay without an
// acknowledgement of the other machine's kernel. A server that is slow acknowledges at once.
const GoneAfter = 3 * time.Second

// Context connects as net.Dialer does, with these limits.
func Context(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: GoneAfter, Control: func(network, _ string, c syscall.RawConn) (err error) {
		if len(network) < 3 || network[:3] != "tcp" {
			return nil
		}
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(GoneAfter.Milliseconds()))
		}); e != nil {
			return e
		}
		return err
	}}
	return d.DialContext(ctx, network, address)
}
