package pg_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/backendtest"
	"cis490/receiver/local"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg"
	"cis490/receiver/pg/pgtest"
	"cis490/receiver/s3"
)

// migrated creates a database with serve's user.
func migrated(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	name := s.Database(t)
	if _, _, err := pg.Migrate(t.Context(), pgtest.URL("postgres", s.Addr, name), pgtest.ServeUser, ""); err != nil {
		t.Fatal(err)
	}
	return name
}

// urlFile writes serve's URL of a database.
func urlFile(t *testing.T, addr, database string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postgres")
	if err := os.WriteFile(path, []byte(pgtest.URL(pgtest.ServeUser, addr, database)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rows is the part of a backend that is in the database.
func rows(dir, urlFile string, pooler bool) receiver.Backend {
	log := slog.New(slog.DiscardHandler)
	base := local.Open(local.Options{FS: disk.OS{}, Dir: dir, Now: time.Now, Log: log})
	return pg.Open(pg.Options{Base: base, FS: disk.OS{}, Dir: dir, URLFile: urlFile, Pooler: pooler, Name: filepath.Base(dir), Log: log})
}

func bucket(t *testing.T, addr, prefix string) *objects.Bucket {
	t.Helper()
	o := s3test.Options(addr)
	o.Prefix = prefix
	b, err := objects.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// place is a database with a bucket.
type place struct {
	url    string // file
	pooler bool
	addr   string // of the object store
	prefix string
}

// open opens them as a receiver with a data folder of its own.
func (p place) open(t *testing.T, dir string) receiver.Backend {
	t.Helper()
	return s3.Open(s3.Options{
		Base: rows(dir, p.url, p.pooler), Bucket: bucket(t, p.addr, p.prefix), FS: disk.OS{}, Dir: dir, Uploads: 8, Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	})
}

// empty creates a database and marks a bucket as its own. addr is that of the database or of what
// is before it.
func empty(t *testing.T, s *pgtest.Server, addr string, pooler bool, store string) place {
	t.Helper()
	p := place{urlFile(t, addr, migrated(t, s)), pooler, store, t.Name() + "/"}
	id, err := rows(t.TempDir(), p.url, pooler).Rows.ID()
	if err = errors.Join(err, s3.Mark(t.Context(), bucket(t, store, p.prefix), id, time.Now())); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestBackend: the cases that every backend has to pass, without and with PgBouncer.
func TestBackend(t *testing.T) {
	store, server := s3test.New(t), pgtest.New(t)
	for name, before := range map[string]func(*testing.T) (string, bool){
		"direct":    func(*testing.T) (string, bool) { return server.Addr, false },
		"PgBouncer": func(t *testing.T) (string, bool) { return pgtest.Bouncer(t, server), true },
	} {
		t.Run(name, func(t *testing.T) {
			addr, pooler := before(t)
			backendtest.Run(t, func(t *testing.T) backendtest.Maker {
				p, dir := empty(t, server, addr, pooler, store.Addr), t.TempDir()
				return func() receiver.Backend { return p.open(t, dir) }
			})
		})
	}
}

// TestRights: serve's user cannot remove or replace a row of an episode.
func TestRights(t *testing.T) {
	server := pgtest.New(t)
	name := migrated(t, server)
	for _, sql := range []string{
		"DELETE FROM episodes", "UPDATE episodes SET sha256 = ''", "DELETE FROM archived", "UPDATE alerts SET body = '{}'", "DROP TABLE episodes",
		"TRUNCATE episodes", "UPDATE meta SET store_id = ''", "CREATE TABLE x ()", "DELETE FROM silences",
	} {
		got := server.SQL(t, name, fmt.Sprintf(`SET ROLE %s; DO $$ BEGIN EXECUTE %s; RAISE 'done';
			EXCEPTION WHEN insufficient_privilege THEN NULL; END $$`, pgtest.ServeUser, quote(sql)))
		if got != "" {
			t.Errorf("%s: %s", sql, got)
		}
	}
	server.SQL(t, name, "SET ROLE cis490_read; SELECT * FROM episode_index")
}

func quote(s string) string { return "$x$" + s + "$x$" }

// TestSchema: a database without schema, or with a later one, is refused with the fix.
func TestSchema(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	dir := t.TempDir()
	b := rows(dir, urlFile(t, server.Addr, name), false)
	if _, err := b.Serve(); !errors.Is(err, receiver.ErrUnready) || pg.Explain(err) == nil {
		t.Errorf("an empty database: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, local.LedgerFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data folder is marked: %v", err)
	}
	owner := pgtest.URL("postgres", server.Addr, name)
	for _, want := range []int64{0, 3} {
		from, to, err := pg.Migrate(t.Context(), owner, pgtest.ServeUser, "")
		if err != nil || from != want || to != 3 {
			t.Fatalf("migrated from %d to %d, %v", from, to, err)
		}
	}
	if st, err := pg.ReadStatus(t.Context(), owner); err != nil || st.Schema != 3 || st.StoreID == "" {
		t.Errorf("%+v, %v", st, err)
	}
	s, err := b.Serve()
	if err != nil {
		t.Fatal(err)
	}
	server.SQL(t, name, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (5, true)")
	if c := s.Conditions(false); len(c) != 1 || !errors.Is(c[0].Err, receiver.ErrUnready) {
		t.Errorf("a later schema: %v", c)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	base := local.Open(local.Options{FS: disk.OS{}, Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if _, err := base.Serve(); err == nil {
		t.Error("the data folder is served with rows in files")
	}
}

// TestURL_NamesAFile: a file that the URL names and that cannot be read is named, without the URL.
func TestURL_NamesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postgres")
	url := "postgres://rx:secret@db/cis490?sslmode=verify-full&sslrootcert=/nonexistent/root.pem\n"
	if err := os.WriteFile(path, []byte(url), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := rows(t.TempDir(), path, false).Rows.Find(t.Context(), entry(1, "x").Key())
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/root.pem") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
