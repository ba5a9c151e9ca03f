package commands_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waiting is a place where a command blocks: it returns arguments, and a function that
// reports whether the process has reached it.
type waiting func(t *testing.T) (args []string, stdin *os.File, there func(pid int) bool)

// TestInterrupt_EndsWhereverItWaits: one signal ends every command that can wait for
// another process. Its own timeouts are minutes.
func TestInterrupt_EndsWhereverItWaits(t *testing.T) {
	r := newSite(t)
	r.record(1, 1<<10)
	r.must(exec.Command("cis490", "ship", "--once", "--config", r.path("lab.toml")).Run()) // so that there is something to reconcile
	r.record(1, 1<<10)
	cases := map[string]waiting{
		"install --join -": onStdin("install", "lab-host", "--join", "-", "--dry-run", "--root"),
		"install, locked":  onLock("install", "receiver", "--public-url", "https://127.0.0.1:1", "--no-start", "--root"),
		"demo":             onChildren("demo"),
	}
	for _, words := range []string{
		"serve", "bootstrap", "ship", "ship --once", "ship --ping", "orchestrate", "orchestrate --once", "reconcile", "health-check",
		"cert-fetch",
		"doctor", "status", "fleet-check", "alerts list", "host list", "host list --watch", "token list", "ca rotate", "episode list",
	} {
		cases[words+", config is a FIFO"] = onFIFO(strings.Fields(words)...)
	}
	for _, words := range []string{
		"ship --once", "ship --ping", "ship", "reconcile", "health-check", "cert-fetch --renew",
		"orchestrate --once",
	} {
		cases[words+", receiver is silent"] = r.onReceiver(strings.Fields(words)...)
	}
	for _, words := range []string{"token list", "token create lab-09 --json", "host show lab-01", "host decommission lab-01", "ca show"} {
		cases[words+", authority is silent"] = r.onSocket("authority.sock", strings.Fields(words)...)
	}
	for name, wait := range cases {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(fmt.Sprintf("%s, %s", name, sig), func(t *testing.T) {
				t.Parallel()
				args, stdin, there := wait(t)
				var out bytes.Buffer
				cmd := exec.Command("cis490", args...)
				cmd.Stdout, cmd.Stderr = &out, &out
				if stdin != nil {
					cmd.Stdin = stdin
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan struct{})
				go func() { _ = cmd.Wait(); close(ended) }()
				came := poll(t, ended, func() bool { return there(cmd.Process.Pid) })
				start := time.Now()
				_ = cmd.Process.Signal(sig) // it may have ended by itself
				select {
				case <-ended:
					if !came {
						t.Logf("it does not wait there: %s", out.Bytes())
					}
					t.Logf("ended %s after the signal", time.Since(start).Round(time.Millisecond))
				case <-time.After(20 * time.Second): // a second, and what a loaded machine adds
					_ = cmd.Process.Kill()
					<-ended
					t.Errorf("does not end: %s", out.Bytes())
				}
			})
		}
	}
}

// poll returns true once the condition holds, false if the process ended before.
func poll(t *testing.T, ended chan struct{}, cond func() bool) bool {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for !cond() {
		select {
		case <-ended:
			return false
		case <-tick.C:
		case <-timeout:
			t.Error("the command did not come where it would wait")
			return false
		}
	}
	return true
}

func onStdin(args ...string) waiting {
	return func(t *testing.T) ([]string, *os.File, func(int) bool) {
		in, out, err := os.Pipe()
		if err == nil {
			_, err = out.WriteString("c")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = in.Close(), out.Close() })
		return append(args, t.TempDir()), in, func(int) bool { // it has read all input
			n, err := unix.IoctlGetInt(int(in.Fd()), unix.TIOCINQ)
			return err == nil && n == 0
		}
	}
}

func onLock(args ...string) waiting {
	return func(t *testing.T) ([]string, *os.File, func(int) bool) {
		root := t.TempDir()
		path := filepath.Join(root, "opt/cis490/state/lock")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return append(args, root), nil, func(pid int) bool {
			fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
			for _, fd := range fds {
				if to, err := os.Readlink(fd); err == nil && to == path {
					return true
				}
			}
			return false
		}
	}
}

// onChildren waits until a command has children, as demo does.
func onChildren(args ...string) waiting {
	return func(*testing.T) ([]string, *os.File, func(int) bool) {
		return args, nil, func(pid int) bool {
			all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
			n := 0
			for _, f := range all {
				b, _ := os.ReadFile(f)
				n += len(strings.Fields(string(b)))
			}
			return n >= 2
		}
	}
}

func onFIFO(args ...string) waiting {
	return func(t *testing.T) ([]string, *os.File, func(int) bool) {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return append(args, "--config", path), nil, func(int) bool {
			f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if err == nil {
				t.Cleanup(func() { _ = f.Close() })
			}
			return err == nil
		}
	}
}

// onReceiver runs a command against a receiver that accepts connections and sends nothing.
func (r *site) onReceiver(args ...string) waiting {
	return func(t *testing.T) ([]string, *os.File, func(int) bool) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		conf := strings.ReplaceAll(r.read("lab.toml"), r.url, "https://"+l.Addr().String())
		conf = strings.ReplaceAll(conf, r.path("data"), filepath.Join(dir, "data"))
		err = os.CopyFS(filepath.Join(dir, "data"), os.DirFS(r.path("data")))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "lab.toml"), []byte(conf), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return append(args, "--config", filepath.Join(dir, "lab.toml")), nil, accepted(t, l)
	}
}

// onSocket runs a command against an authority that accepts connections and sends nothing.
func (r *site) onSocket(name string, args ...string) waiting {
	return func(t *testing.T) ([]string, *os.File, func(int) bool) {
		dir, err := os.MkdirTemp("/tmp", "cis490-test-") //nolint:usetesting // a socket's path is short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "rx.toml"), []byte(r.read("rx.toml")+fmt.Sprintf("socket = %q\n", filepath.Join(dir, name))),
				0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return append(args, "--config", filepath.Join(dir, "rx.toml")), nil, accepted(t, l)
	}
}

func accepted(t *testing.T, l net.Listener) func(int) bool {
	came := make(chan struct{})
	go func() {
		for first := true; ; first = false {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			if first {
				close(came)
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return func(int) bool {
		select {
		case <-came:
			return true
		default:
			return false
		}
	}
}

// TestInterrupt_NobodyReads: a command whose output nobody reads ends too.
func TestInterrupt_NobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cis490", "man") // more than a page
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	full := func() bool {
		n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		return err == nil && n == os.Getpagesize()
	}
	for !full() {
		time.Sleep(time.Millisecond)
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Error("still there 10 s after the signal")
	}
}
