package pg_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/receiver"
	"cis490/receiver/pg/pgtest"
)

// read returns what a reader reads, by receiver and key, and whether all values followed.
func read(t *testing.T, r receiver.PeerReader) (all map[string]string, begun bool) {
	t.Helper()
	all = map[string]string{}
	now, err := r.Read(func() { begun = true }, func(p receiver.Published) { all[p.Receiver+"/"+p.Key] = string(p.Content) })
	if err != nil || time.Since(now).Abs() > time.Minute {
		t.Fatalf("at %s: %v", now, err)
	}
	return all, begun
}

// TestPeers: each receiver sees what the others publish, and only its own values change.
func TestPeers(t *testing.T) {
	server := pgtest.New(t)
	database := migrated(t, server)
	url := urlFile(t, server.Addr, database)
	a, b := rows(t.TempDir(), url, false).Peers, rows(t.TempDir(), url, false).Peers
	reader := b.Follow("contacts/")
	if err := a.Publish(map[string][]byte{"contacts/lab-a": []byte("1"), "member": []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if got, begun := read(t, reader); !begun || len(got) != 1 || got[a.Self()+"/contacts/lab-a"] != "1" {
		t.Errorf("first read: %v, begun %t", got, begun)
	}
	if err := b.Publish(map[string][]byte{"contacts/lab-a": []byte("2")}); err != nil {
		t.Fatal(err)
	}
	got, begun := read(t, reader)
	if begun || got[b.Self()+"/contacts/lab-a"] != "2" {
		t.Errorf("second read: %v, begun %t", got, begun)
	}
	if err := a.Publish(map[string][]byte{"contacts/lab-a": nil}); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, b.Follow("contacts/")); len(got) != 0 {
		t.Errorf("after it was removed: %v", got)
	}
}

// TestPeers_LateCommits: a value whose transaction began before a read and ended after it is read
// next time.
func TestPeers_LateCommits(t *testing.T) {
	server := pgtest.New(t)
	database := migrated(t, server)
	url := urlFile(t, server.Addr, database)
	b := rows(t.TempDir(), url, false)
	reader := b.Peers.Follow("")
	ctx := t.Context()
	c, err := pgx.Connect(ctx, pgtest.URL("postgres", server.Addr, database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO peers (receiver, key, pos, saved, content)
		SELECT 'other', 'late', pos_base + pg_current_xact_id()::text::bigint, now(), 'x' FROM meta`)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if err := b.Peers.Publish(map[string][]byte{fmt.Sprintf("k%d", i): []byte("y")}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got, _ := read(t, reader); len(got) != 20 {
		t.Errorf("%d values beside an open transaction", len(got))
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, reader); got["other/late"] != "x" {
		t.Errorf("the late value is missing: %v", got)
	}
	if got, _ := read(t, reader); len(got) != 0 {
		t.Errorf("values that did not change: %v", got)
	}
}
