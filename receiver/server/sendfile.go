package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileListener lets the kernel send files over a Unix socket, which Go does for TCP only.
// TLS excludes it, because the data must be encrypted.
type fileListener struct{ net.Listener }

// Accept waits for the next connection.
func (l fileListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return c, nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	return fileConn{c, raw}, nil
}

type fileConn struct {
	net.Conn
	raw syscall.RawConn
}

// ReadFrom is the method that net/http uses to send a part of a file.
func (c fileConn) ReadFrom(r io.Reader) (sent int64, err error) {
	part, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{c.Conn}, r)
	}
	file, ok := part.R.(interface{ Fd() uintptr })
	if !ok {
		return io.Copy(struct{ io.Writer }{c.Conn}, r)
	}
	var failed error
	err = c.raw.Write(func(fd uintptr) (done bool) {
		for part.N > 0 {
			n, err := unix.Sendfile(int(fd), int(file.Fd()), nil, int(min(part.N, sendChunk)))
			switch {
			case errors.Is(err, unix.EAGAIN): // the buffer is full: continue when there is room, or at the deadline
				return false
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				failed = fmt.Errorf("sendfile: %w", err)
				return true
			case n == 0:
				return true // end of the file
			}
			sent += int64(n)
			part.N -= int64(n)
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	return sent, err
}
