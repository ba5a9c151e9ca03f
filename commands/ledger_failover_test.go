package commands_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"cis490/internal/ident"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg/pgtest"
)

// rowsOf returns the digest of each episode's row.
func rowsOf(t *testing.T, server *pgtest.Server, database string) map[ident.EpisodeID]string {
	t.Helper()
	rows := map[ident.EpisodeID]string{}
	for line := range strings.Lines(server.SQL(t, database, "SELECT episode || ' ' || sha256 FROM episode_index")) {
		id, digest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rows[ident.EpisodeID(id)] = digest
	}
	return rows
}

// TestLedger_Promoted kills the database under load and promotes its standby. A synchronous one
// has the row of each acknowledged episode. What an asynchronous one lacks is adopted from the
// bucket, and each episode of which two contents were acknowledged is named.
func TestLedger_Promoted(t *testing.T) {
	t.Parallel()
	for _, synchronous := range []bool{true, false} {
		t.Run(fmt.Sprintf("synchronous=%t", synchronous), func(t *testing.T) { t.Parallel(); promoted(t, synchronous) })
	}
}

func promoted(t *testing.T, synchronous bool) {
	store, first := s3test.New(t), pgtest.New(t)
	r, database := newSharedSite(t, store, first)
	rx := r.path("rx.toml")
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", rx)
	r.mustRun("store", "init", "--config", rx)
	second := first.Standby(t)
	r.write("postgres", []byte(pgtest.URL(pgtest.ServeUser, first.Addr+","+second.Addr, database)+"\n"))
	if synchronous {
		first.Wait(t)
	}
	r.serve()
	r.ready()
	c := newCrowd(r)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.run(ctx); close(done) }()
	more := func() {
		t.Helper()
		before := c.count()
		r.until("episodes are taken", func() bool { return c.count() >= before+60 })
	}
	more()
	if !synchronous {
		second.Detach(t)
		more()
	}
	first.Kill()
	second.Promote(t)
	more()
	stop()
	<-done
	rows := rowsOf(t, second, database)
	without := 0
	for id := range c.acked {
		if rows[id] == "" {
			without++
		}
	}
	t.Logf("%d episodes acknowledged, %d without a row after the failover", len(c.acked), without)
	if synchronous && without > 0 || !synchronous && without == 0 {
		t.Errorf("%d without a row", without)
	}
	r.ageObjects(store) // scrub leaves what is younger than an hour
	r.mustRun("store", "scrub", "--config", rx)
	rows = rowsOf(t, second, database)
	log := r.read("serve.log")
	for id, digests := range c.acked {
		if len(digests) == 1 && digests[rows[id]] || strings.Contains(log, string(id)) && (rows[id] == "" || len(digests) > 1) {
			continue // the latter: two contents, which only a person can decide
		}
		t.Errorf("%s was acknowledged as %v, its row is %q", id, digests, rows[id])
	}
	r.mustRun("store", "verify", "--deep", "--config", rx)
}
