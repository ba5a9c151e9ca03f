package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileListener gives connections of a Unix socket what Go gives those of TCP only:
// the kernel sends a file by itself. Over TLS nobody can, as it must be encrypted.
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

// ReadFrom is what net/http looks for when it sends a part of a file.
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
			case errors.Is(err, unix.EAGAIN): // its buffer is full: when there is room again, or at the deadline
				return false
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				failed = fmt.Errorf("sendfile: %w", err)
				return true
			case n == 0:
				return true // the file ends here
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
