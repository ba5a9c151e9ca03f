package mirror_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/manifest"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/mirror"
	"cis490/receiver/pg"
	"cis490/receiver/pg/pgtest"
)

// site is a receiver's folders.
type site struct {
	t    *testing.T
	dir  string
	back receiver.Backend
	*mirror.Mirror
}

func newSite(t *testing.T, url string, elsewhere bool) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	log := slog.New(slog.DiscardHandler)
	base := local.Open(local.Options{FS: disk.OS{}, Dir: s.dir, Now: time.Now, Log: log})
	s.back = pg.Open(pg.Options{Base: base, FS: disk.OS{}, Dir: s.dir, URLFile: url, Name: filepath.Base(s.dir), Log: log})
	s.Mirror = mirror.New(mirror.Options{
		Docs: s.back.Docs, Lease: func() (io.Closer, error) { return s.back.Lease(receiver.Publishing) }, FS: disk.OS{},
		Authority: filepath.Join(s.dir, "authority"), Releases: local.ReleasesDir(s.dir),
		Elsewhere: func() (bool, error) { return elsewhere, nil }, Log: log,
	})
	return s
}

func (s *site) write(name string, content []byte) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(s.t, os.WriteFile(path, content, 0o600))
}

func (s *site) read(name string) string {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return ""
	}
	return string(b)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newDatabase(t *testing.T) (server *pgtest.Server, name, url string) {
	t.Helper()
	server = pgtest.New(t)
	name = server.Database(t)
	_, _, err := pg.Migrate(t.Context(), pgtest.URL("postgres", server.Addr, name), pgtest.ServeUser, "")
	must(t, err)
	url = filepath.Join(t.TempDir(), "postgres")
	must(t, os.WriteFile(url, []byte(pgtest.URL(pgtest.ServeUser, server.Addr, name)+"\n"), 0o600))
	return server, name, url
}

// TestMirror: another receiver has the authority's files and the releases as they are, also after
// they changed; it has no secret.
func TestMirror(t *testing.T) {
	server, name, url := newDatabase(t)
	a, b := newSite(t, url, false), newSite(t, url, true)
	if err := b.Once(); fault.FixOf(err) == "" {
		t.Errorf("before anything is published: %v", err)
	}
	blob := make([]byte, 5<<19) // three chunks
	_, _ = rand.Read(blob)
	a.write("authority/roster.jsonl", []byte("one\n"))
	a.write("authority/trust.pem", []byte("trust"))
	a.write("authority/ca.key", []byte("secret"))
	a.write("releases/blobs/x", blob)
	a.write("releases/orders.jsonl", []byte("order\n"))
	equal := func(what string) {
		t.Helper()
		must(t, a.Once())
		must(t, b.Once())
		for _, name := range []string{"authority/roster.jsonl", "authority/trust.pem", "releases/blobs/x", "releases/orders.jsonl"} {
			if a.read(name) != b.read(name) {
				t.Errorf("%s: %s differs", what, name)
			}
		}
		if b.read("authority/ca.key") != "" {
			t.Errorf("%s: the key was copied", what)
		}
	}
	equal("at first")
	a.write("authority/roster.jsonl", bytes.Repeat([]byte("one\n"), 1<<19))
	equal("a long roster")
	chunks := func() string {
		return server.SQL(t, name, "SELECT count(*) FROM documents WHERE starts_with(name, 'mirror/') AND name NOT LIKE '%index.json'")
	}
	a.write("authority/roster.jsonl", append(bytes.Repeat([]byte("one\n"), 1<<19), "two\n"...))
	equal("a row more")
	before := chunks()
	a.write("authority/roster.jsonl", []byte("one\n"))
	equal("a roster that was restored")
	if after := chunks(); after >= before {
		t.Errorf("%s chunks, after a smaller roster %s", before, after)
	}
	must(t, os.Remove(filepath.Join(b.dir, "releases/blobs/x")))
	again := newSite(t, url, true)
	again.write("authority/roster.jsonl", []byte("old\n"))
	must(t, again.Once())
	if again.read("authority/roster.jsonl") != "one\n" || again.read("releases/blobs/x") != string(blob) {
		t.Error("a new receiver has other files")
	}

	if err := newSite(t, url, false).Once(); !strings.Contains(fault.FixOf(err), "elsewhere = true") {
		t.Errorf("a second authority: %v", err)
	}
	must(t, a.back.Docs.Save("mirror/index.json", []byte(`[{"name":"authority/../../x","chunks":[]}]`)))
	if err := b.Once(); err == nil {
		t.Error("a file outside of the folders was written")
	}
}

// TestMirror_Recorded: once the authority's rows are in the database, copies of its files are made
// of them, and not of documents, which serve's user can write.
func TestMirror_Recorded(t *testing.T) {
	server, name, url := newDatabase(t)
	a, b := newSite(t, url, false), newSite(t, url, true)
	b.Mirror = mirror.New(mirror.Options{
		Docs: b.back.Docs, FS: disk.OS{}, Authority: filepath.Join(b.dir, "authority"), Releases: local.ReleasesDir(b.dir),
		Elsewhere: func() (bool, error) { return true, nil }, Recorded: b.back.Authority, Log: slog.New(slog.DiscardHandler),
	})
	a.write("authority/roster.jsonl", []byte("forged\n"))
	a.write("authority/trust.pem", []byte("forged"))
	a.write("releases/orders.jsonl", []byte("order\n"))
	must(t, a.Once())
	must(t, b.Once())
	if b.read("authority/roster.jsonl") != "forged\n" {
		t.Error("without rows of the authority, its files are not copied")
	}
	server.SQL(t, name, `INSERT INTO authority_rows (file, line) VALUES ('roster.jsonl', 'one'), ('tokens.jsonl', 'secret'),
		('trust.pem', 'old'), ('roster.jsonl', 'two'), ('trust.pem', 'trust')`)
	for _, row := range []string{"", "three"} {
		if row != "" {
			server.SQL(t, name, "INSERT INTO authority_rows (file, line) VALUES ('roster.jsonl', '"+row+"')")
			a.write("authority/trust.pem", []byte("forged again"))
			must(t, a.Once())
		}
		must(t, b.Once())
		if got := b.read("authority/roster.jsonl"); !strings.HasPrefix(got, "one\ntwo\n"+row) || b.read("authority/trust.pem") != "trust" {
			t.Errorf("roster %q, trust %q", got, b.read("authority/trust.pem"))
		}
	}
	if b.read("authority/tokens.jsonl") != "" || b.read("releases/orders.jsonl") != "order\n" {
		t.Error("a secret was copied, or releases were not")
	}
}

// TestMirror_Orders: an order on a receiver with copies would be lost, and is refused.
func TestMirror_Orders(t *testing.T) {
	dir := t.TempDir()
	base := local.Open(local.Options{FS: disk.OS{}, Dir: dir, Now: time.Now})
	b := pg.Open(pg.Options{Base: base, FS: disk.OS{}, Dir: dir, Copies: func() (bool, error) { return true, nil }})
	if err := b.Releases.Give(manifest.Order{Verb: manifest.OrderPromote, Seq: 1}); !errors.Is(err, receiver.ErrCopies) {
		t.Errorf("an order: %v", err)
	}
}
