package pg_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/receiver"
	"cis490/receiver/pg/pgtest"
)

var feedFor = flag.Duration("feed-for", 5*time.Second, "how long the feed is tested")

// TestFeed: followers see each row of 8 writers once, though some transactions stay open for a
// while, and others that began later commit first.
func TestFeed(t *testing.T) {
	server := pgtest.New(t)
	database := migrated(t, server)
	b := rows(t.TempDir(), urlFile(t, server.Addr, database), false)
	var written atomic.Int64
	ctx, stop := context.WithTimeout(t.Context(), *feedFor)
	defer stop()
	var wg sync.WaitGroup
	for range 7 { // the eighth commits as serve does
		wg.Go(func() {
			if err := write(ctx, pgtest.URL(pgtest.ServeUser, server.Addr, database), &written); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, _, err := b.Rows.Commit(context.Background(), entry(int(written.Add(1)), "x")); err != nil {
				t.Error(err)
			}
		}
	})
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Go(func() { follow(t, b, &written, done) })
	}
	wg.Wait()
	close(done)
	readers.Wait()
}

// write inserts rows in transactions, of which one in fifty stays open.
func write(ctx context.Context, url string, written *atomic.Int64) (err error) {
	c, err := pgx.Connect(context.Background(), url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.Background())) }()
	for ctx.Err() == nil {
		err := pgx.BeginFunc(context.Background(), c, func(tx pgx.Tx) error {
			_, err := tx.Exec(context.Background(), `INSERT INTO episodes (host, episode, sha256, size, received_at, pos)
				VALUES ('lab-b', $1, decode(repeat('00', 32), 'hex'), 1, clock_timestamp(), pg_current_xact_id()::text::bigint)`,
				fmt.Sprintf("01K%023d", written.Add(1)))
			if rand.IntN(50) == 0 {
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // the delay is what is tested
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// follow reads until all writers are done, and counts what it saw.
func follow(t *testing.T, b receiver.Backend, written *atomic.Int64, done <-chan struct{}) {
	f := b.Index.Follow(time.Now().Add(-time.Hour))
	seen := map[receiver.Key]int{}
	begun, reads := 0, 0
	for last := false; !last; reads++ {
		select {
		case <-done:
			last = true
		case <-time.After(20 * time.Millisecond):
		}
		if err := f.Read(func() { begun++ }, func(e receiver.Entry) { seen[e.Key()]++ }); err != nil {
			t.Error(err)
		}
	}
	twice := 0
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	missed := int(written.Load()) - len(seen)
	t.Logf("%d rows, %d reads: %d missed, %d doubled", written.Load(), reads, missed, twice)
	if missed != 0 || twice != 0 || begun != 1 || len(seen) < 100 {
		t.Errorf("%d missed, %d doubled, begun %d times, %d rows", missed, twice, begun, len(seen))
	}
}
