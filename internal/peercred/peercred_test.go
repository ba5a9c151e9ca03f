package peercred_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/peercred"
)

// In a test without root no other user can be at the other end of a socket, so the rule is
// tested by itself.
func TestPermitted(t *testing.T) {
	for _, c := range []struct {
		uid  uint32
		own  int
		want bool
	}{{0, 990, true}, {990, 990, true}, {991, 990, false}, {1000, 0, false}} {
		if got := peercred.Permitted(unix.Ucred{Uid: c.uid}, c.own); got != c.want {
			t.Errorf("user %d asks a service of user %d: %v", c.uid, c.own, got)
		}
	}
	if _, known := peercred.Caller(t.Context()); known {
		t.Error("nobody is known")
	}
}

// TestListen_LongPathAndCaller: a socket works under a path that is too long for its
// address, replaces an abandoned one, and reports the caller.
func TestListen_LongPathAndCaller(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("long", 50), "admin.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, err := peercred.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", fi, err)
		}
		s := &http.Server{
			ReadHeaderTimeout: time.Second, ConnContext: peercred.WithCaller,
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if cred, known := peercred.Caller(r.Context()); !known || int(cred.Pid) != os.Getpid() {
					t.Errorf("asked by %+v, %t", cred, known)
				}
			}),
		}
		go func() { _ = s.Serve(l) }()
		res, err := peercred.Client(path, time.Second).Get("http://service/")
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDial_ConnectsToNoOtherSocket: the owner of a socket's folder cannot redirect root to
// another socket.
func TestDial_ConnectsToNoOtherSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := peercred.Listen(filepath.Join(dir, "of-another"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Symlink("of-another", filepath.Join(dir, "http.sock")); err != nil {
		t.Fatal(err)
	}
	if c, err := peercred.Dial(t.Context(), filepath.Join(dir, "http.sock")); err == nil {
		t.Errorf("connected to %v through a symlink", c.RemoteAddr())
	}
	c, err := peercred.Dial(t.Context(), filepath.Join(dir, "of-another"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
