package dial_test

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cis490/internal/dial"
)

// TestContext: the kernel gives a connection up whose data is not acknowledged.
func TestContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := dial.Context(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || got != int(dial.GoneAfter.Milliseconds()) {
		t.Errorf("the kernel waits %d ms, %v", got, err)
	}
}
