package pg_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/pg/pgtest"
)

// every cuts at every byte, which takes a minute; otherwise at one in eleven, from a random one on.
var every = flag.Bool("every", false, "cut connections at every byte")

// entry is the row of an episode with a content.
func entry(n int, content string) receiver.Entry {
	sum := sha256.Sum256([]byte(content))
	return receiver.Entry{
		Host: "lab-a", Episode: ident.EpisodeID(fmt.Sprintf("01K%023d", n)), Digest: ident.Digest(hex.EncodeToString(sum[:])),
		Size: int64(len(content)), Commit: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	}
}

// TestFault_Commit cuts the connection at each byte of a commit, in both directions. An outcome
// that is reported is true, and one that is not known is never a conflict.
func TestFault_Commit(t *testing.T) {
	server := pgtest.New(t)
	stride := 11
	if *every {
		stride = 1
	}
	for name, pooler := range map[string]bool{"prepared": false, "as for a pooler": true} {
		t.Run(name, func(t *testing.T) {
			cut := pgtest.NewCutter(t, server.Addr)
			database := migrated(t, server)
			through := rows(t.TempDir(), urlFile(t, cut.Addr, database), pooler).Rows
			direct := rows(t.TempDir(), urlFile(t, server.Addr, database), false).Rows
			warm := func(n int) {
				if _, _, err := through.Commit(t.Context(), entry(n, "warm")); err != nil {
					t.Fatal(err)
				}
			}
			n, unknown, took := 0, 0, 0
			next := func() int { n++; return n }
			warm(next())
			for _, way := range []pgtest.Way{pgtest.ToServer, pgtest.ToClient} {
				for at := rand.IntN(stride); ; at += stride {
					warm(next()) // the connection is open
					id := next()
					first, second := entry(id, "first"), entry(id, "second")
					cut.Arm(way, at)
					have, created, err := through.Commit(t.Context(), first)
					reached := cut.Moved(way) > at
					cut.Arm(way, -1)
					switch {
					case err == nil && (!created || have.Digest != first.Digest):
						t.Fatalf("way %d, byte %d: created %t, %+v", way, at, created, have)
					case err != nil && !errors.Is(err, receiver.ErrUnavailable):
						t.Fatalf("way %d, byte %d: %v", way, at, err)
					case err != nil:
						unknown++
					}
					other, mine, err2 := direct.Commit(t.Context(), second)
					if err2 != nil || mine == (other.Digest == first.Digest) || err == nil && mine {
						t.Fatalf("way %d, byte %d: first %v; then the second: created %t, %+v, %v", way, at, err, mine, other, err2)
					}
					if err != nil && !mine {
						took++
					}
					if !reached {
						break
					}
				}
			}
			t.Logf("%d outcomes were unknown, %d of these commits took effect", unknown, took)
			if unknown < 300/stride || took == 0 {
				t.Error("so few: was anything cut at all?")
			}
		})
	}
}

// TestCommit_OnlyWarned: a commit whose wait for a standby is cancelled is not a success.
func TestCommit_OnlyWarned(t *testing.T) {
	server := pgtest.New(t)
	database := migrated(t, server)
	r := rows(t.TempDir(), urlFile(t, server.Addr, database), false).Rows
	if _, _, err := r.Commit(t.Context(), entry(1, "x")); err != nil {
		t.Fatal(err)
	}
	server.SQL(t, "postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	server.SQL(t, "postgres", "SELECT pg_reload_conf()")
	time.Sleep(time.Second) // until the backend has read it
	done := make(chan error, 1)
	go func() {
		_, _, err := r.Commit(context.Background(), entry(2, "x"))
		done <- err
	}()
	for late := time.Now().Add(20 * time.Second); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		if server.SQL(t, "postgres", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "" {
			break
		}
	}
	if err := <-done; !errors.Is(err, receiver.ErrUnavailable) {
		t.Errorf("a commit that only warned: %v", err)
	}
}

// TestCommit_SameTime: of many commits of one episode by two receivers, one content wins.
func TestCommit_SameTime(t *testing.T) {
	server := pgtest.New(t)
	database := migrated(t, server)
	both := []receiver.Rows{
		rows(t.TempDir(), urlFile(t, server.Addr, database), false).Rows, rows(t.TempDir(), urlFile(t, server.Addr, database), false).Rows,
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	created, acked := map[ident.EpisodeID]int{}, map[ident.EpisodeID]map[ident.Digest]bool{}
	for i := range 400 {
		wg.Go(func() {
			e := entry(i/8, []string{"first", "second"}[i/2%2])
			have, made, err := both[i%2].Commit(context.Background(), e)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if made {
				created[e.Episode]++
			}
			if acked[e.Episode] == nil {
				acked[e.Episode] = map[ident.Digest]bool{}
			}
			acked[e.Episode][have.Digest] = true
		})
	}
	wg.Wait()
	for id, n := range created {
		if n != 1 || len(acked[id]) != 1 {
			t.Errorf("%s: created %d times, %d contents", id, n, len(acked[id]))
		}
	}
	if len(created) != 50 {
		t.Errorf("%d episodes", len(created))
	}
}

// TestDatabaseAway: while the database is away every call fails as unavailable; afterwards
// everything works without a restart.
func TestDatabaseAway(t *testing.T) {
	server := pgtest.New(t)
	b := rows(t.TempDir(), urlFile(t, server.Addr, migrated(t, server)), false)
	e := entry(1, "x")
	if _, _, err := b.Rows.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	_, _, commit := b.Rows.Commit(t.Context(), e)
	_, _, find := b.Rows.Find(t.Context(), e.Key())
	_, load := b.Docs.Load("x", 1)
	silence := b.Silences.Append([]receiver.Silence{{Host: "a", Symptom: "b"}})
	for name, err := range map[string]error{"commit": commit, "find": find, "document": load, "log": silence, "index": b.Index.Healthy()} {
		if !errors.Is(err, receiver.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if have, created, err := b.Rows.Commit(t.Context(), e); err != nil || created || have.Digest != e.Digest {
		t.Errorf("afterwards: %+v, %t, %v", have, created, err)
	}
}
