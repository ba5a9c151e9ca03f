package orchestrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/experiment"
)

const (
	// maxLine bounds one line of the event protocol, in bytes.
	maxLine = 4096
	// maxConns bounds the concurrent connections.
	maxConns = 64
	// maxDetail bounds an event's detail, in characters.
	maxDetail = 500
)

// report is an event during an episode.
type report struct {
	at                    stamp
	source, event, detail string
}

// listener reads the workload's events from a socket in its folder and from an inherited
// one. It stamps each line at once when it arrives.
type listener struct {
	clock *clock
	out   chan<- report
	path  string
	ln    *net.UnixListener
	child *os.File // the workload's end of the inherited socket

	accepted chan struct{} // closed when accept has ended

	mu    sync.Mutex
	conns map[net.Conn]bool
	ended bool
	wg    sync.WaitGroup
}

// listen opens both sockets. It sends reports on out until close returns.
func listen(path string, c *clock, out chan<- report) (*listener, error) {
	if len(path) > 107 {
		return nil, fmt.Errorf("listen for events: %s is longer than the 107 bytes of a socket's path: choose a shorter data_dir", path)
	}
	l := &listener{clock: c, out: out, path: path, conns: map[net.Conn]bool{}, accepted: make(chan struct{})}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listen for events: %w", err)
	}
	l.child = os.NewFile(uintptr(pair[1]), "events")
	own := os.NewFile(uintptr(pair[0]), "events")
	conn, err := net.FileConn(own)
	if err := errors.Join(err, own.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for events: %w", err), l.child.Close())
	}
	if l.ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for events: %w", err), l.child.Close(), conn.Close())
	}
	l.serve(conn)
	go l.accept()
	return l, nil
}

// started closes the inherited end here, once the workload has it.
func (l *listener) started() { _ = l.child.Close() }

// drain waits, at most for the given time, until everything sent before has been read.
// Afterwards the listener accepts nothing.
func (l *listener) drain(within time.Duration) {
	_ = l.ln.SetDeadline(time.Unix(1, 0))
	<-l.accepted
	l.waiting()
	l.mu.Lock()
	l.ended = true
	for c := range l.conns {
		_ = c.SetReadDeadline(time.Now().Add(within)) // fails only on a closed connection
	}
	l.mu.Unlock()
	_ = l.ln.Close()
	l.wg.Wait()
}

// waiting accepts the pending connections, whose programs may have reported and ended
// already.
func (l *listener) waiting() {
	raw, err := l.ln.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for range maxConns { // bounded, so that endless connecting cannot block the end
			next, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err != nil {
				return // non-blocking: none left
			}
			f := os.NewFile(uintptr(next), "events")
			c, err := net.FileConn(f)
			if _ = f.Close(); err == nil {
				l.serve(c)
			}
		}
	})
}

// close closes everything without waiting for more events.
func (l *listener) close() {
	_ = l.child.Close()
	l.drain(0)
}

func (l *listener) accept() {
	defer close(l.accepted)
	for {
		c, err := l.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors; some will be freed
			continue
		}
		l.serve(c)
	}
}

func (l *listener) serve(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.conns) >= maxConns {
		_ = c.Close()
		return
	}
	l.conns[c] = true
	l.wg.Go(func() {
		l.read(c)
		l.mu.Lock()
		delete(l.conns, c)
		l.mu.Unlock()
		_ = c.Close()
	})
}

func (l *listener) read(c io.Reader) {
	buf, n := make([]byte, maxLine), 0
	for {
		got, err := c.Read(buf[n:])
		at := l.clock.stamp()
		n += got
		for {
			end := bytes.IndexByte(buf[:n], '\n')
			if end < 0 {
				break
			}
			l.line(at, string(buf[:end]))
			n = copy(buf, buf[end+1:n])
		}
		if n == len(buf) {
			l.line(at, string(buf))
			n = 0
		}
		if err != nil {
			if n > 0 { // a last line without a newline
				l.line(at, string(buf[:n]))
			}
			return
		}
	}
}

func (l *listener) line(at stamp, s string) {
	s = strings.TrimSpace(s)
	if s == "" {
		return
	}
	verb, rest, _ := strings.Cut(s, " ")
	name, detail, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if verb != "event" || !experiment.ValidName(name) || len(s) >= maxLine {
		l.out <- report{at, "events", "malformed", check.Sanitize(s, maxDetail)}
		return
	}
	l.out <- report{at, sourceWorkload, name, check.Sanitize(strings.TrimSpace(detail), maxDetail)}
}
