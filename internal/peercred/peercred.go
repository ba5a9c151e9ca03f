// Package peercred serves HTTP over a Unix socket to local users that the kernel identifies or
// admits. It does not decide what a caller may do.
package peercred

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"cis490/internal/disk"
	"cis490/internal/httpclient"

	"golang.org/x/sys/unix"
)

type key struct{}

// WithCaller stores the credentials of the process at the other end of a Unix socket in a
// context, for http.Server's ConnContext.
func WithCaller(ctx context.Context, c net.Conn) context.Context {
	if model, ok := c.(Model); ok {
		return context.WithValue(ctx, key{}, model.Caller())
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, key{}, *cred)
}

// Model is a simulated connection that knows its caller, for tests.
type Model interface {
	net.Conn
	Caller() unix.Ucred
}

// Caller returns the caller's credentials; false if the kernel reported none.
func Caller(ctx context.Context) (unix.Ucred, bool) {
	cred, ok := ctx.Value(key{}).(unix.Ucred)
	return cred, ok
}

// Permitted reports whether the caller is root or the service's own user.
func Permitted(cred unix.Ucred, own int) bool { return cred.Uid == 0 || int(cred.Uid) == own }

// Listen listens at a path of any length, for its user and root. It removes an existing
// socket: the caller knows that no living process uses it.
func Listen(path string) (net.Listener, error) { return listen(path, 0o600) }

// ListenGroup is Listen, also for the group of the socket's folder, which must be setgid.
func ListenGroup(path string) (net.Listener, error) { return listen(path, 0o660) }

func listen(path string, perm os.FileMode) (_ net.Listener, err error) {
	if err := (disk.OS{}).Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove abandoned socket: %w", err)
	}
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the short name may belong to another file by then
	if err := (disk.OS{}).Chmod(path, perm); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// maxAnswer bounds an answer, in bytes; a roster of 10,000 hosts has 3 MB.
const maxAnswer = 16 << 20

// Client returns a client of the service at a path. The host in its URLs is ignored.
func Client(path string, timeout time.Duration) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) }
	return httpclient.New(&http.Transport{DialContext: dial, DisableKeepAlives: true},
		httpclient.Bounds{Total: timeout, Answer: maxAnswer})
}

// Dial connects to the socket at a path, and never to the target of a symlink that the
// folder's owner may have put there.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	socket, err := disk.OS{}.OpenSocket(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = socket.Close() }()
	return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", socket.Fd()))
}

// shorten returns a name for a path that fits into the 108 bytes of a socket's address. It
// is valid until done is called.
func shorten(path string) (short string, done func(), err error) {
	dir, err := disk.OS{}.OpenFolder(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}
