package pgtest

import (
	"os"
	"path/filepath"
	"testing"
)

// Standby starts a standby of a server. It is asynchronous until the server waits for it.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	b := &Server{Dir: folder(t), bin: s.bin}
	var err error
	if b.Addr, err = freeAddr(t.Context()); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(b.Dir, "data")
	backup := command(filepath.Join(s.bin, "pg_basebackup"), "--pgdata", data, "--dbname", URL("postgres", s.Addr, ""),
		"--write-recovery-conf", "--checkpoint", "fast", "--no-sync")
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v: %s", err, out)
	}
	if err := os.Chmod(data, 0o700); err != nil { //nolint:gosec // a folder, which the server wants so
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	return b
}

// Wait has every commit wait for the standby, which must be connected.
func (s *Server) Wait(t testing.TB) {
	t.Helper()
	s.SQL(t, "postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
	s.SQL(t, "postgres", "SELECT pg_reload_conf()")
}

// Detach ends a standby's connection to its primary, whose later commits it lacks.
func (s *Server) Detach(t testing.TB) {
	t.Helper()
	s.SQL(t, "postgres", "ALTER SYSTEM SET primary_conninfo = ''")
	s.SQL(t, "postgres", "SELECT pg_reload_conf()")
}

// Promote makes a standby the primary.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.SQL(t, "postgres", "SELECT pg_promote()")
}
