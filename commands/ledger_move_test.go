package commands_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg"
	"cis490/receiver/pg/pgtest"
)

// inFiles returns the rows of the data folder's index, one text each.
func (r *site) inFiles() (all []string) {
	r.tb.Helper()
	for line := range strings.Lines(r.read("rx/index.jsonl")) {
		var e receiver.Entry
		r.must(json.Unmarshal([]byte(line), &e))
		at := e.ReceivedAt.UnixMicro()
		all = append(all, fmt.Sprintf("%s|%s|%s|%d|%s|%d|%t", e.Host, e.Episode, e.Digest, e.Size, e.Commit, at, e.Archived))
	}
	slices.Sort(all)
	return all
}

func inDatabase(t *testing.T, server *pgtest.Server, database string) (all []string) {
	t.Helper()
	out := server.SQL(t, database, `SELECT concat_ws('|', host, episode, encode(sha256, 'hex'), size,
		coalesce(encode(code_commit, 'hex'), ''), (extract(epoch FROM received_at) * 1000000)::bigint, archived::text) FROM index_rows`)
	for line := range strings.Lines(out) {
		all = append(all, strings.TrimSpace(line))
	}
	slices.Sort(all)
	return all
}

// TestLedger_ThereAndBack moves a receiver with everything on its disk to a database and an
// object store while it takes episodes, and back, with nothing to do on the host.
func TestLedger_ThereAndBack(t *testing.T) {
	t.Parallel()
	store, server := s3test.New(t), pgtest.New(t)
	database := server.Database(t)
	r := newSite(t)
	rx := r.path("rx.toml")
	onDisk := r.read("rx.toml")
	r.shareAt("there.toml", store.Addr, pgtest.URL(pgtest.ServeUser, server.Addr, database))
	r.write("owner", []byte(pgtest.URL("postgres", server.Addr, database)))
	r.ship(3)
	r.mustRun("alerts", "silence", siteHost, "silent", "--until", "1h", "--config", rx)
	_, _ = r.run("fleet-check", "--config", rx) // 4 if the host is sick: its state has to move in any case
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", r.path("there.toml"))
	move := func(to string, episodes int) {
		t.Helper()
		r.mustRun("store", "copy", "--to", r.path(to), "--config", rx)
		r.ship(1) // serve goes on
		final := []string{"store", "copy", "--to", r.path(to), "--config", rx, "--final"}
		if out, err := r.run(final...); err == nil || !strings.Contains(out, "stop cis490-receiver") {
			t.Errorf("--final beside serve: %v: %s", err, out)
		}
		r.stopServing()
		if to == "back.toml" {
			server.SQL(t, database, `INSERT INTO peers VALUES ('rx2', 'member', 1, now(), '{"name": "rx2"}')`)
			if out, err := r.run(final...); err == nil || !strings.Contains(out, "rx2 serves from the same database") {
				t.Errorf("--final beside another receiver: %v: %s", err, out)
			}
			server.SQL(t, database, `UPDATE peers SET saved = now() - interval '2 minutes' WHERE receiver = 'rx2'`)
		}
		r.mustRun(final...)
		if there, here := inDatabase(t, server, database), r.inFiles(); !slices.Equal(there, here) {
			t.Errorf("the rows differ:\n%s\n\n%s", strings.Join(there, "\n"), strings.Join(here, "\n"))
		}
		silences, documents := server.SQL(t, database, "SELECT count(*) FROM silences"), server.SQL(t, database, "SELECT count(*) FROM documents")
		if n := strings.Count(r.read("rx/silences.jsonl"), "\n"); silences != "1" || n != 1 || documents < "2" {
			t.Errorf("%s silences in the database, %d in the file, %s documents", silences, n, documents)
		}
		r.serve() // with the old config
		r.until("it refuses", func() bool { return strings.Contains(r.read("serve.log"), "sudo cis490 store copy --help") })
		r.stopServing()
		r.must(os.Rename(r.path(to), rx))
		r.serve()
		r.ready()
		r.all(episodes)
		r.ship(1)
		r.all(episodes + 1)
	}
	move("there.toml", 4)
	r.ageObjects(store) // archive leaves what is younger than a minute
	r.must(os.Mkdir(r.path("archived"), 0o750))
	out := r.mustRun("archive", "--before", "2100-01-01", "--to", r.path("archived"), "--config", rx)
	if !strings.Contains(out, "moved 5 episodes") {
		t.Errorf("archive: %s", out)
	}
	r.write("back.toml", []byte(onDisk))
	move("back.toml", 6)
	if list, err := os.ReadFile(r.path("rx/archived/" + siteHost)); err != nil || strings.Count(string(list), "\n") != 5 {
		t.Errorf("archived: %v: %s", err, list)
	}
}

// TestLedger_CopyKilled kills copies of many rows at random moments, in both directions: after
// the last one both ledgers have the same rows.
func TestLedger_CopyKilled(t *testing.T) {
	t.Parallel()
	const rows, kills = 6000, 5
	store, server := s3test.New(t), pgtest.New(t)
	database := server.Database(t)
	r := newSite(t)
	rx := r.path("rx.toml")
	r.stopServing()
	onDisk := r.read("rx.toml")
	r.storeAt("rx.toml", store.Addr, "")
	r.mustRun("store", "init", "--config", rx)
	inBucket := r.read("rx.toml")
	r.write("rx.toml", []byte(onDisk))
	r.shareAt("there.toml", store.Addr, pgtest.URL(pgtest.ServeUser, server.Addr, database))
	r.write("rx.toml", []byte(inBucket))
	r.write("back.toml", []byte(inBucket))
	r.write("owner", []byte(pgtest.URL("postgres", server.Addr, database)))
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", r.path("there.toml"))
	add := func(b receiver.Backend, first int) {
		t.Helper()
		all := make([]receiver.Entry, rows)
		at := time.Now().Add(-time.Hour).Add(time.Duration(first/rows) * time.Minute)
		for i := range all {
			all[i] = receiver.Entry{
				V: 1, Host: siteHost, Episode: ident.EpisodeID(fmt.Sprintf("01K%023d", first+i)),
				Digest: ident.Digest(fmt.Sprintf("%064x", i)), Size: int64(i), Commit: testCommit,
				ReceivedAt: at.Add(time.Duration(i/3) * time.Millisecond),
			}
		}
		r.must(errors.Join(b.Index.Copy(all), b.Index.Close()))
	}
	here := local.Open(local.Options{FS: disk.OS{}, Dir: r.path("rx")})
	there := pg.Open(pg.Options{Base: here, FS: disk.OS{}, Dir: r.path("rx"), URLFile: r.path("postgres")})
	for i, to := range []string{"there.toml", "back.toml"} {
		add([]receiver.Backend{here, there}[i], i*rows)
		for range kills {
			c := exec.Command("cis490", "store", "copy", "--to", r.path(to), "--config", rx, "--final")
			r.must(c.Start())
			time.Sleep(rand.N(300 * time.Millisecond)) // the random moment is the test's input
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		out, err := r.run("store", "copy", "--to", r.path(to), "--config", rx, "--final")
		if err != nil && !strings.Contains(out, "store copy --help") { // else a killed one had switched over
			t.Fatalf("%v: %s", err, out)
		}
		if a, b := inDatabase(t, server, database), r.inFiles(); !slices.Equal(a, b) || len(a) != (i+1)*rows {
			t.Errorf("%d rows in the database, %d in the file, want %d", len(a), len(b), (i+1)*rows)
		}
		r.must(os.Rename(r.path(to), rx))
	}
}

// TestLedger_DatabaseLost: machine and database are lost. The backup and the bucket have all
// that a new receiver and a new database need.
func TestLedger_DatabaseLost(t *testing.T) {
	t.Parallel()
	store, server := s3test.New(t), pgtest.New(t)
	r, _ := newSharedSite(t, store, server)
	rx := r.path("rx.toml")
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", rx)
	r.mustRun("store", "init", "--config", rx)
	r.serve()
	r.ready()
	r.write("ca/ca.key", []byte("key")) // what a backup is made for
	r.ship(3)
	r.mustRun("alerts", "silence", siteHost, "silent", "--until", "1h", "--config", rx)
	r.mustRun("backup", "--config", rx, "--to", r.path("safe.tar.gz"))
	r.stopServing()
	r.must(errors.Join(os.RemoveAll(r.path("rx")), os.RemoveAll(r.path("ca"))))
	again := server.Database(t)
	r.write("postgres", []byte(pgtest.URL(pgtest.ServeUser, server.Addr, again)+"\n"))
	r.write("owner", []byte(pgtest.URL("postgres", server.Addr, again)))
	out := r.mustRun("restore", "--config", rx, "--from", r.path("safe.tar.gz"))
	if !strings.Contains(out, "cis490 ledger load --help") {
		t.Errorf("restore does not say what a database needs: %s", out)
	}
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", rx)
	for range 2 { // the first one may have been killed
		r.mustRun("ledger", "load", "--config", rx)
	}
	r.mustRun("store", "init", "--take-over", "--config", rx)
	r.serve()
	r.ready()
	r.ageObjects(store) // scrub leaves what is younger than an hour
	if out := r.mustRun("store", "scrub", "--config", rx); !strings.Contains(out, "3 rows added") {
		t.Errorf("scrub: %s", out)
	}
	r.all(3)
	if n := server.SQL(t, again, "SELECT count(*) FROM silences"); n != "1" {
		t.Errorf("%s silences", n)
	}
	r.stopServing()
	if out, err := r.run("ledger", "load", "--config", rx); err == nil || !strings.Contains(out, "is not new") {
		t.Errorf("into a database that is in use: %v: %s", err, out)
	}
	server.Kill()
	out = r.mustRun("backup", "--config", rx, "--to", r.path("late.tar.gz"))
	if !strings.Contains(out, "not in the backup: what the database has") {
		t.Errorf("a backup without the database: %s", out)
	}
}
