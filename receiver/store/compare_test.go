package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
)

func TestCompare_BothWays(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	for _, u := range uploads {
		if err := r.put(u); err != nil {
			t.Fatal(err)
		}
	}
	compare := func() receiver.Comparison {
		t.Helper()
		c, err := r.s.Compare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := compare(); c.Rows != 3 || c.Files != 3 || c.Repaired != 0 || c.NoFile != 0 {
		t.Errorf("all is well: %+v", c)
	}
	// Another hand takes one away and brings another: a restore, or an accident.
	gone := filepath.Join(dir, "episodes/lab-a/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst")
	if err := os.Rename(gone, filepath.Join(dir, "episodes/lab-b/01ARZ3NDEKTSV4RRFFQ69G5FA9.tar.zst")); err != nil {
		t.Fatal(err)
	}
	if c := compare(); c.Repaired != 1 || c.NoFile != 1 || c.First != "lab-a/01ARZ3NDEKTSV4RRFFQ69G5FA1" {
		t.Errorf("one gone, one new: %+v", c)
	}
	rows := rowsOf(t, dir)
	if last := rows[len(rows)-1]; len(rows) != 4 || !last.Repaired || last.Host != "lab-b" || last.Digest != uploads[0].Digest ||
		last.Commit != commit {
		t.Errorf("rows %+v", rows)
	}
	if c := compare(); c.Repaired != 0 || c.NoFile != 1 {
		t.Errorf("again: %+v", c)
	}
}

func TestCompare_BesideUploads(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 25 {
				id := ident.EpisodeID(fmt.Sprintf("01ARZ3NDEKTSV4RRFFQ69G5F%02d", n))
				if err := r.put(upload(ident.Host(fmt.Sprintf("lab-%d", i)), id)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		if c, err := r.s.Compare(t.Context()); err != nil || c.Repaired != 0 || c.NoFile != 0 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	wg.Wait()
	if rows := rowsOf(t, dir); len(rows) != 100 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestCompare_MakesALostIndexAnew(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	for _, u := range uploads {
		if err := r.put(u); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "index.jsonl")); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "episodes/lab-b/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst"), old, old); err != nil {
		t.Fatal(err)
	}
	c, err := r.s.Compare(t.Context())
	if err != nil || c.Repaired != 3 || c.NoFile != 0 || len(rowsOf(t, dir)) != 3 {
		t.Errorf("%+v, %v, %d rows", c, err, len(rowsOf(t, dir)))
	}
}

// TestOpen_DamagedRow: a damaged row needs only its own repair. It does not keep the
// store from starting, even if a crash left an upload to complete.
func TestOpen_DamagedRow(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	for _, u := range uploads {
		if err := r.put(u); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "index.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	copy(lines[1][70:], bytes.Repeat([]byte{0}, len(lines[1])-71)) // a block of zeros, the time still there
	strange := []byte(`{"received_at":"2026-01-01T00:00:00Z","kind":"of another program"}` + "\n")
	if err := os.WriteFile(path, bytes.Join([][]byte{strange, lines[0], lines[1], lines[2]}, nil), 0o640); err != nil {
		t.Fatal(err)
	}
	last := uploads[2]
	name := fmt.Sprintf("%s.%s.%s.%s.00000000", last.Host, last.Episode, last.Digest, last.Commit)
	if err := os.Link(
		filepath.Join(dir, "episodes", string(last.Host), string(last.Episode)+".tar.zst"), filepath.Join(dir, "staged", name),
	); err != nil {
		t.Fatal(err)
	}

	r = openT(t, disk.OS{}, dir)
	if left := names(t, filepath.Join(dir, "staged")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
	c, err := r.s.Compare(t.Context())
	if err != nil || c.Rows != 2 || c.Files != 3 || c.Repaired != 1 || c.NoFile != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	rows := rowsOf(t, dir)
	if len(rows) != 3 || !rows[2].Repaired || rows[2].Episode != uploads[1].Episode {
		t.Errorf("rows %+v", rows)
	}
}
