package commands_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg/pgtest"
)

// shareAt writes a config whose rows are in a database and whose tarballs are in a bucket.
func (r *site) shareAt(name, store, database string) {
	r.storeAt(name, store, "")
	r.write("postgres", []byte(database+"\n"))
	r.write(name, fmt.Appendf(nil, "%s[ledger]\nbackend = \"postgres\"\nurl_file = %q\n", r.read(name), r.path("postgres")))
}

// newSharedSite is a site whose rows are in a new database.
func newSharedSite(t *testing.T, store *s3test.Server, server *pgtest.Server) (r *site, database string) {
	t.Helper()
	database = server.Database(t)
	r = newSite(t)
	rx := r.path("rx.toml")
	r.stopServing()
	r.must(errors.Join(os.RemoveAll(r.path("rx")), os.Mkdir(r.path("rx"), 0o750)))
	r.shareAt("pg.toml", store.Addr, pgtest.URL(pgtest.ServeUser, server.Addr, database))
	r.must(os.Rename(r.path("pg.toml"), rx))
	r.write("owner", []byte(pgtest.URL("postgres", server.Addr, database)))
	return r, database
}

// TestLedger_NewReceiver: one that begins with a database, and commands on it.
func TestLedger_NewReceiver(t *testing.T) {
	t.Parallel()
	store, server := s3test.New(t), pgtest.New(t)
	r, database := newSharedSite(t, store, server)
	rx := r.path("rx.toml")
	r.serve()
	r.until("it says what is missing", func() bool { return strings.Contains(r.read("serve.log"), "sudo cis490 ledger migrate") })
	if out, err := r.run("ledger", "status", "--config", rx); err == nil || !strings.Contains(out, "no schema yet") {
		t.Errorf("status of an empty database: %v: %s", err, out)
	}
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", rx)
	r.until("it says what else is missing", func() bool { return strings.Contains(r.read("serve.log"), "sudo cis490 store init") })
	r.mustRun("store", "init", "--config", rx)
	r.until("it uses the bucket", func() bool { return strings.Contains(r.read("serve.log"), "object store is back") })
	r.ready()
	r.ship(3)
	r.all(3)
	if n := server.SQL(t, database, "SELECT count(*) FROM episode_index"); n != "3" {
		t.Errorf("%s rows", n)
	}
	if out := r.mustRun("store", "scrub", "--config", rx); !strings.Contains(out, "3 rows and 3 tarballs compared") {
		t.Errorf("scrub: %s", out)
	}
	for args, want := range map[string]string{
		"ledger status":  "schema 3 of 3",
		"ledger migrate": "has schema 3 already",
		"fleet-check":    "1 hosts",
		"status":         "RECEIVER",
		"alerts":         "",
		"doctor --only ledger.postgres,store.same": "answers in",
		"doctor --only ledger.partitions":          "made; 3 rows",
		"doctor --only ledger.standby":             "GRANT pg_monitor",
	} {
		out, err := r.run(append(strings.Fields(args), "--config", rx)...)
		if err != nil && !strings.HasPrefix(args, "alerts") || !strings.Contains(out, want) {
			t.Errorf("%s: %v: %s", args, err, out)
		}
	}
	r.mustRun("alerts", "silence", siteHost, "silent", "--until", "1h", "--config", rx)
	for _, name := range []string{"index.jsonl", "alerts.jsonl", "silences.jsonl", "contacts.json", "rejections.jsonl"} {
		if _, err := os.Stat(r.path("rx/" + name)); err == nil {
			t.Errorf("the data folder has %s", name)
		}
	}
	// The rows are not in files, and a config that says so is refused.
	r.stopServing()
	shared := r.read("rx.toml")
	files, _, _ := strings.Cut(shared, "[ledger]")
	r.write("rx.toml", []byte(files))
	r.serve()
	r.until("it refuses", func() bool { return strings.Contains(r.read("serve.log"), "are in a database") })
	r.stopServing()
	r.write("rx.toml", []byte(shared))
	r.serve()
	r.ready()
	r.ship(1)
	r.all(4)
	server.Kill()
	r.record(1, 1<<10)
	if out, err := r.run("ship", "--once", "--config", r.path("lab.toml")); err == nil || !strings.Contains(out, "status=503") {
		t.Errorf("without the database: %v: %s", err, out)
	}
	r.must(server.Start())
	r.ready()
	r.until("the host's episode is taken", func() bool { return shipped(r) })
	r.all(5)
}

// shipped has the host try again.
func shipped(r *site) bool {
	_, err := r.run("ship", "--once", "--config", r.path("lab.toml"))
	return err == nil
}
