package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/s3"
)

const (
	host    = ident.Host("lab-a")
	episode = ident.EpisodeID("01ARZ3NDEKTSV4RRFFQ69G5FA1")
)

func upload(text string) (receiver.Upload, *strings.Reader) {
	sum := sha256.Sum256([]byte(text))
	return receiver.Upload{
		Host: host, Episode: episode, Digest: ident.Digest(hex.EncodeToString(sum[:])), Size: int64(len(text)),
		Commit: ident.Commit(strings.Repeat("a", 40)),
	}, strings.NewReader(text)
}

func key(u receiver.Upload) string {
	return fmt.Sprintf("episodes/%s/%s.%s.%s.tar.zst", u.Host, u.Episode, u.Digest, u.Commit)
}

func admitted() error { return nil }

// rows counts the rows of the episode, and returns the digest of the last.
func rows(t *testing.T, b receiver.Backend) (n int, d ident.Digest) {
	t.Helper()
	for e, err := range b.Index.Since(time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		n, d = n+1, e.Digest
	}
	return n, d
}

// TestRequests: a new episode costs one request, once the bucket was listed as a whole;
// what may be there already is looked for.
func TestRequests(t *testing.T) {
	server := s3test.New(t)
	p := s3test.NewProxy(t, server)
	dir, b := t.TempDir(), bucket(t, p.Addr, "")
	begin(t, disk.OS{}, dir, b)
	s, err := open(disk.OS{}, dir, b).Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	put := func(what string, id ident.EpisodeID, text string, want int) {
		t.Helper()
		u, body := upload(text)
		u.Episode = id
		p.Arm(0, "", 0)
		have, found, err := s.Lookup(u.Host, u.Episode)
		if err == nil && (!found || have.Digest != u.Digest) {
			_, _, err = s.Receive(u, body, admitted)
		}
		if text == "other" && !errors.Is(err, receiver.ErrConflict) || text != "other" && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := p.Calls(); n != want {
			t.Errorf("%s: %d requests, want %d", what, n, want)
		}
	}
	put("before the bucket was listed", episode, "first", 3)
	if _, err := s.Compare(t.Context()); err != nil {
		t.Fatal(err)
	}
	put("a newer one", episode[:25]+"3", "first", 1)
	put("the same again", episode[:25]+"3", "first", 1)
	put("other content", episode[:25]+"3", "other", 2)
	put("one between", episode[:25]+"2", "first", 3)
	put("the newest", episode[:25]+"4", "first", 1)
}

// TestReads: the first request for a large tarball asks for its first part only; a reader
// that continues gets the whole.
func TestReads(t *testing.T) {
	p := s3test.NewProxy(t, s3test.New(t))
	dir, b := t.TempDir(), bucket(t, p.Addr, "")
	begin(t, disk.OS{}, dir, b)
	text := strings.Repeat("0123456789abcde\n", 3<<20/16)
	u, body := upload(text)
	if err := b.Put(t.Context(), key(u), body, u.Size, u.Digest); err != nil {
		t.Fatal(err)
	}
	f, err := open(disk.OS{}, dir, b).Episodes.Open(receiver.Key{Host: host, Episode: episode})
	if err != nil {
		t.Fatal(err)
	}
	p.Arm(0, "", 0) // counts from here
	if _, err := io.ReadFull(f, make([]byte, 4096)); err != nil || p.Calls() != 1 {
		t.Errorf("%d requests for its beginning, %v", p.Calls(), err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != text || p.Calls() != 3 {
		t.Errorf("%d bytes after %d requests, %v", len(got), p.Calls(), err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestLateObject: an object that appears long after its request failed does not replace the
// content acknowledged meanwhile, before and after a restart.
func TestLateObject(t *testing.T) {
	for name, compared := range map[string]bool{"listed": true, "not listed": false} {
		t.Run(name, func(t *testing.T) { lateObject(t, compared) })
	}
}

func lateObject(t *testing.T, compared bool) {
	server := s3test.New(t)
	p := s3test.NewProxy(t, server)
	dir, b := t.TempDir(), bucket(t, p.Addr, "")
	begin(t, disk.OS{}, dir, b)
	back := open(disk.OS{}, dir, b)
	s, err := back.Serve()
	if err != nil {
		t.Fatal(err)
	}
	first, body := upload("first")
	p.Arm(put(t, s, compared), s3test.Refuse, 2) // all three tries to put
	if _, _, err := s.Receive(first, body, admitted); !errors.Is(err, receiver.ErrBusy) {
		t.Fatalf("a store that is away: %v", err)
	}
	p.Arm(0, "", 0)
	until(t, "the store is back", func() bool { return len(s.Conditions(false)) == 0 })
	second, body := upload("second")
	if _, created, err := s.Receive(second, body, admitted); !created || err != nil {
		t.Fatalf("created %t, %v", created, err)
	}
	if err := b.Put(t.Context(), key(first), bytes.NewReader([]byte("first")), 5, first.Digest); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e, found, err := s.Lookup(host, episode); !found || e.Digest != second.Digest || err != nil {
			t.Errorf("stored is %+v, %t, %v", e, found, err)
		}
		_, body := upload("first")
		if _, _, err := s.Receive(first, body, admitted); !errors.Is(err, receiver.ErrConflict) {
			t.Errorf("the late content: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		back = open(disk.OS{}, dir, b)
		if s, err = back.Serve(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = s.Close() }()
	if n, d := rows(t, back); n != 1 || d != second.Digest {
		t.Errorf("%d rows, the last of %s", n, d)
	}
	f, err := back.Episodes.Open(receiver.Key{Host: host, Episode: episode})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got := make([]byte, 6)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "second" {
		t.Errorf("read %q, %v", got, err)
	}
	c, err := s.Compare(context.Background())
	if err != nil || c.Rows != 1 || c.Files != 2 || c.Repaired+c.NoFile != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestRestored: a receiver whose rows are lost adds them for the objects that are older than
// its start. A newer object may belong to an upload in progress.
func TestRestored(t *testing.T) {
	server := s3test.New(t)
	dir, b := t.TempDir(), bucket(t, server.Addr, "")
	begin(t, disk.OS{}, dir, b)
	u, body := upload("before")
	put := func(u receiver.Upload) {
		if err := b.Put(t.Context(), key(u), body, u.Size, u.Digest); err != nil {
			t.Fatal(err)
		}
	}
	put(u)
	if err := os.Chtimes(filepath.Join(server.Dir, s3test.Bucket, key(u)), time.Time{}, time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	back := open(disk.OS{}, dir, b)
	s, err := back.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	u.Episode = ident.EpisodeID("01J00000000000000000000002")
	put(u)
	if c, err := s.Compare(t.Context()); err != nil || c.Files != 2 || c.Repaired != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if n, d := rows(t, back); n != 1 || d != u.Digest {
		t.Errorf("%d rows, the last of %s", n, d)
	}
}

// put returns which request of the next upload is its put: before the bucket was compared
// the first one looks for the episode.
func put(t *testing.T, s receiver.Store, compared bool) int {
	t.Helper()
	if !compared {
		return 2
	}
	if _, err := s.Compare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return 1
}

// TestLostAnswer: after lost answers, the next lookup of an object adds its row, and another
// content is a conflict.
func TestLostAnswer(t *testing.T) {
	for name, compared := range map[string]bool{"listed": true, "not listed": false} {
		t.Run(name, func(t *testing.T) { lostAnswer(t, compared) })
	}
}

func lostAnswer(t *testing.T, compared bool) {
	server := s3test.New(t)
	p := s3test.NewProxy(t, server)
	dir, b := t.TempDir(), bucket(t, p.Addr, "")
	begin(t, disk.OS{}, dir, b)
	back := open(disk.OS{}, dir, b)
	s, err := back.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	first, body := upload("first")
	p.Arm(put(t, s, compared), s3test.LoseAnswer, 2)
	if _, _, err := s.Receive(first, body, admitted); !errors.Is(err, receiver.ErrBusy) {
		t.Fatalf("got %v", err)
	}
	p.Arm(0, "", 0)
	until(t, "the store is back", func() bool { return len(s.Conditions(false)) == 0 })
	second, body := upload("second")
	if _, _, err := s.Receive(second, body, admitted); !errors.Is(err, receiver.ErrConflict) {
		t.Errorf("another content: %v", err)
	}
	_, body = upload("first")
	if _, created, err := s.Receive(first, body, admitted); created || err != nil {
		t.Errorf("again: created %t, %v", created, err)
	}
	if n, d := rows(t, back); n != 1 || d != first.Digest {
		t.Errorf("%d rows, the last of %s", n, d)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "puts")); err != nil || len(left) != 0 {
		t.Errorf("claims are left: %v, %v", left, err)
	}
}

// TestSameTime: of many uploads of one episode with two contents, one content is stored,
// once.
func TestSameTime(t *testing.T) {
	for name, compared := range map[string]bool{"listed": true, "not listed": false} {
		t.Run(name, func(t *testing.T) { sameTime(t, compared) })
	}
}

func sameTime(t *testing.T, compared bool) {
	server := s3test.New(t)
	dir, b := t.TempDir(), bucket(t, server.Addr, "")
	begin(t, disk.OS{}, dir, b)
	back := open(disk.OS{}, dir, b)
	s, err := back.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	put(t, s, compared)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, acked := 0, map[ident.Digest]bool{}
	for i := range 8 {
		wg.Go(func() {
			u, body := upload([]string{"first", "second"}[i%2])
			_, created, err := s.Receive(u, body, admitted)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && created:
				made++
				acked[u.Digest] = true
			case err == nil:
				acked[u.Digest] = true
			case !errors.Is(err, receiver.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, d := rows(t, back); n != 1 || made != 1 || len(acked) != 1 || !acked[d] {
		t.Errorf("%d rows, %d created, acknowledged %v", n, made, acked)
	}
}

// TestCheck_StoreAway: rows are not judged by a store that does not answer.
func TestCheck_StoreAway(t *testing.T) {
	p := s3test.NewProxy(t, s3test.New(t))
	dir, b := t.TempDir(), bucket(t, p.Addr, "")
	begin(t, disk.OS{}, dir, b)
	back := open(disk.OS{}, dir, b)
	s, err := back.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	u, body := upload("first")
	if _, _, err := s.Receive(u, body, admitted); err != nil {
		t.Fatal(err)
	}
	p.Arm(1, s3test.Refuse, 1<<20)
	for _, newest := range []int{0, 200} {
		if c, err := back.Episodes.Check(t.Context(), newest, time.Now()); !errors.Is(err, receiver.ErrBusy) {
			t.Errorf("newest %d: %+v, %v", newest, c, err)
		}
	}
}

// TestOtherBucket: a data folder and a bucket of different stores accept no uploads.
func TestOtherBucket(t *testing.T) {
	server := s3test.New(t)
	dir, b := t.TempDir(), bucket(t, server.Addr, "")
	begin(t, disk.OS{}, dir, b)
	other := t.TempDir()
	begin(t, disk.OS{}, other, bucket(t, server.Addr, "other/"))
	s, err := open(disk.OS{}, other, b).Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	u, body := upload("first")
	if _, _, err := s.Receive(u, body, admitted); !errors.Is(err, receiver.ErrUnready) || !errors.Is(err, s3.ErrOther) {
		t.Errorf("got %v", err)
	}
	if missing := s.Conditions(false); len(missing) != 1 || missing[0].What != "object store" {
		t.Errorf("missing: %v", missing)
	}
	if err := s3.Mark(t.Context(), b, s.ID(), time.Now()); !errors.Is(err, s3.ErrOther) {
		t.Errorf("marked again: %v", err)
	}
}

// until waits for a condition set by another goroutine.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); !done(); {
		select {
		case <-late:
			t.Fatalf("not yet: %s", what)
		case <-tick.C:
		}
	}
}
