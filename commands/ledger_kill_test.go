package commands_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg/pgtest"
)

var ledgerKills = flag.Int("ledger-kills", 0, "how often receiver, object store or database are killed")

// TestLedger_Killed kills receiver, object store and database in turn under load: what was
// acknowledged has its row and its object, and no id has two contents.
func TestLedger_Killed(t *testing.T) {
	if *ledgerKills == 0 {
		t.Skip("takes minutes: make crashtest, or -ledger-kills 20")
	}
	store, server := s3test.New(t), pgtest.New(t)
	r, database := newSharedSite(t, store, server)
	rx := r.path("rx.toml")
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", rx)
	r.mustRun("store", "init", "--config", rx)
	r.serve()
	r.ready()
	c := newCrowd(r)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.run(ctx); close(done) }()
	for kill := range *ledgerKills {
		before, more := c.count(), 1+rand.IntN(10)
		r.until("episodes are taken", func() bool { return c.count() >= before+more })
		switch kill % 3 {
		case 0:
			_ = r.serving.Process.Kill()
			_ = r.serving.Wait()
			r.serve()
		case 1:
			store.Kill()
			r.must(store.Start())
		default:
			server.Kill()
			r.must(server.Start())
		}
	}
	stop()
	<-done
	rows := rowsOf(t, server, database)
	losers := 0
	objects := map[string]bool{}
	all, err := filepath.Glob(filepath.Join(store.Dir, s3test.Bucket, "episodes", siteHost, "*"+wire.TarballSuffix))
	r.must(err)
	for _, path := range all {
		part := strings.Split(filepath.Base(path), ".")
		objects[part[0]+part[1]] = true
		if rows[ident.EpisodeID(part[0])] != part[1] {
			losers++
		}
	}
	for id, digests := range c.acked {
		for d := range digests {
			if len(digests) != 1 || rows[id] != d || !objects[string(id)+d] {
				t.Errorf("%s was acknowledged as %s of %d contents: its row is %s, its object is there: %t",
					id, d, len(digests), rows[id], objects[string(id)+d])
			}
		}
	}
	t.Logf("%d kills, %d episodes acknowledged, answers %v, %d rows, %d objects, %d of them lost",
		*ledgerKills, len(c.acked), c.answers, len(rows), len(all), losers)
	r.mustRun("store", "verify", "--deep", "--config", rx)
}
