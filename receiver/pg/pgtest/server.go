// Package pgtest runs a real PostgreSQL on loopback over a temporary folder, PgBouncer before
// it, and a proxy that cuts connections. It is for tests.
//
// The programs are those of Debian's packages postgresql and pgbouncer; without them a test is
// skipped. Nothing here is safe for a network.
//
//storage:files runs a server over a temporary folder, for tests
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ServeUser is a user without rights of its own, and Password the password of all users.
const (
	ServeUser = "rx"
	Password  = "cis490test"
)

// startTimeout bounds a start of a server.
const startTimeout = 60 * time.Second

// Server is a PostgreSQL.
type Server struct {
	Dir  string
	Addr string
	bin  string
	run  program
}

// programs returns the folder of PostgreSQL's programs.
func programs() (string, error) {
	all, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err == nil && len(all) == 0 {
		err = errors.New("no /usr/lib/postgresql/*/bin/initdb")
	}
	if err != nil {
		return "", err
	}
	return filepath.Dir(all[len(all)-1]), nil
}

// New starts a server, which ends with the test. Its superuser is postgres.
func New(t testing.TB) *Server {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Skipf("no PostgreSQL: sudo apt-get install postgresql   # %v", err)
	}
	s := &Server{Dir: folder(t), bin: bin}
	if s.Addr, err = freeAddr(t.Context()); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(s.Dir, "data")
	password := filepath.Join(s.Dir, "password")
	if err := errors.Join(os.WriteFile(password, []byte(Password), 0o644), os.Chmod(password, 0o644)); err != nil { //nolint:gosec // a test's
		t.Fatal(err)
	}
	init := command(filepath.Join(bin, "initdb"), "--pgdata", data, "--username", "postgres", "--auth", "scram-sha-256",
		"--pwfile", password, "--no-sync", "--encoding", "UTF8", "--locale", "C.UTF-8")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	s.SQL(t, "postgres", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", ServeUser, Password))
	return s
}

// folder returns a folder that the servers' user may write.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgtest") //nolint:usetesting // a socket's path is at most 107 bytes, and its user may not enter TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if c := credential(); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// credential is the user of the servers, which refuse to run as root; nil: this one.
func credential() *syscall.Credential {
	u, err := user.Lookup("postgres")
	if os.Geteuid() != 0 || err != nil {
		return nil
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if errUID != nil || errGID != nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// command is a command of the servers' user. It ends with this process.
func command(path string, args ...string) *exec.Cmd {
	c := exec.Command(path, args...) //nolint:gosec // a test's
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: credential(), Setpgid: true}
	return c
}

// freeAddr returns a free loopback address.
func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Start starts the server again after Kill, at the same address.
func (s *Server) Start() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	c := command(filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.Dir, "data"), "-p", port, "-k", s.Dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400", "-c", "shared_buffers=64MB", "-c", "autovacuum_naptime=5s")
	return s.run.start(c, func() bool { // while it recovers, it listens
		return command(filepath.Join(s.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", port).Run() == nil
	})
}

// Kill ends the server and its processes as kill -9 does.
func (s *Server) Kill() { s.run.kill() }

// URL returns the URL of a user in a database, at an address that may be a proxy's.
func URL(name, addr, database string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", name, Password, addr, database)
}

// Database creates a database and returns its name.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	s.SQL(t, "postgres", "CREATE DATABASE "+name)
	return name
}

// SQL runs statements as the superuser, and returns what psql prints.
func (s *Server) SQL(t testing.TB, database, sql string) string {
	t.Helper()
	out, err := s.Try(URL("postgres", s.Addr, database), sql)
	if err != nil {
		t.Fatalf("%s: %v: %s", sql, err, out)
	}
	return out
}

// Try runs statements as the user of a URL, and returns what psql prints.
func (s *Server) Try(url, sql string) (string, error) {
	out, err := command(filepath.Join(s.bin, "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", url, "-c", sql).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// program is a running server.
type program struct {
	cmd  *exec.Cmd
	done chan error
	said bytes.Buffer
}

// start starts a program and waits until it is ready.
func (p *program) start(c *exec.Cmd, ready func() bool) error {
	p.said.Reset()
	c.Stdout, c.Stderr = nil, &p.said
	if err := c.Start(); err != nil {
		return err
	}
	p.cmd, p.done = c, make(chan error, 1)
	go func(done chan<- error) { done <- c.Wait() }(p.done)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	for {
		select {
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("%s ended: %w: %s", c.Path, err, p.said.String())
		case <-late.C:
			return fmt.Errorf("%s does not accept connections", c.Path)
		case <-tick.C:
		}
		if ready() {
			return nil
		}
	}
}

// kill ends the program and its children, which may be in sessions of their own.
func (p *program) kill() {
	pid := p.cmd.Process.Pid
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) // it may have ended
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for child := range strings.FieldsSeq(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	p.done <- <-p.done
}

// answers reports whether somebody listens at an address.
func answers(addr string) bool {
	conn, err := net.Dial("tcp", addr) //nolint:noctx // a loopback probe
	return err == nil && conn.Close() == nil
}
