package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Bouncer starts PgBouncer in transaction mode before a server, which ends with the test, and
// returns its address. It has few connections, so that each transaction gets any of them.
func Bouncer(t testing.TB, s *Server) string {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skipf("no PgBouncer: sudo apt-get install pgbouncer   # %v", err)
	}
	addr, err := freeAddr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	host, server, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	users, ini := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
	conf := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\n"+
		"unix_socket_dir = %s\nauth_type = plain\nauth_file = %s\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 500\n",
		host, server, port, dir, users)
	list := fmt.Sprintf("%q %q\n%q %q\n", "postgres", Password, ServeUser, Password)
	for name, content := range map[string]string{users: list, ini: conf} {
		if err := errors.Join(os.WriteFile(name, []byte(content), 0o644), os.Chmod(name, 0o644)); err != nil { //nolint:gosec // a test's
			t.Fatal(err)
		}
	}
	var p program
	if err := p.start(command(path, ini), func() bool { return answers(addr) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return addr
}
