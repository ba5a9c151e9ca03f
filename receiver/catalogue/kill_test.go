package catalogue

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"cis490/internal/episode"
)

// childEnv makes a test process fill the catalogue that it names, until it is killed.
const childEnv = "CIS490_CATALOGUE_CHILD"

const killBatch = 200

// fill puts the batch of rows that follows those of the catalogue.
func fill(c *Catalogue) error {
	_, n, err := c.Reached()
	if err != nil {
		return err
	}
	rows := make([]Row, killBatch)
	for i := range rows {
		rows[i] = benchRow(n + i)
	}
	return c.put(rows, rows[killBatch-1].ReceivedAt)
}

// whole opens a catalogue and checks that it has exactly the rows up to the last that was
// reached, and each of them in each of its lists. It returns their number.
func whole(t *testing.T, path string) int {
	t.Helper()
	c, err := Open(path, "store", episode.FormatLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	reached, n, err := c.Reached()
	if err != nil || n%killBatch != 0 || n > 0 && !reached.Equal(benchRow(n-1).ReceivedAt) {
		t.Fatalf("%d rows, the last of %s: %v", n, reached, err)
	}
	lists := 0
	for i := range n {
		want := benchRow(i)
		got, found, err := c.Get(want.Host, want.Episode)
		if err != nil || !found || got.Digest != want.Digest {
			t.Fatalf("row %d of %d: %+v, %v", i, n, got, err)
		}
		for _, k := range want.entries() {
			lists++
			err := c.view(func(tx *bbolt.Tx) error {
				if at, _ := listsOf(tx, k).Cursor().Seek(k); !bytes.Equal(at, k) {
					t.Errorf("row %d of %d is not in list %d", i, n, k[0])
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.view(func(tx *bbolt.Tx) error {
		if rows := tx.Bucket(rowsBucket()).Stats().KeyN; rows != n {
			t.Errorf("%d rows, want %d", rows, n)
		}
		if have := tx.Bucket(indexBucket()).Stats().KeyN + tx.Bucket(digestsBucket()).Stats().KeyN; have != lists {
			t.Errorf("%d keys in lists, want %d", have, lists)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPut_Killed kills a process that fills the catalogue: at every moment, the file has whole
// batches.
func TestPut_Killed(t *testing.T) {
	if path := os.Getenv(childEnv); path != "" {
		c, err := Open(path, "store", episode.FormatLimits())
		for err == nil {
			err = fill(c)
		}
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "catalogue.db")
	last := 0
	for range 12 {
		child := exec.Command(os.Args[0], "-test.run=^TestPut_Killed$")
		child.Env = append(os.Environ(), childEnv+"="+path)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+rand.IntN(150)) * time.Millisecond)
		_ = child.Process.Kill() // it runs, or Wait reports why not
		if err := child.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}
		n := whole(t, path)
		if n < last {
			t.Fatalf("%d rows, but %d before", n, last)
		}
		last = n
	}
	t.Logf("%d rows after 12 kills", last)
}

// TestPut_PowerCut loses any of the pages that a batch writes, and tears the page that makes
// them valid: the file has the batch as a whole, or not at all.
func TestPut_PowerCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalogue.db")
	read := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	step := func() (before, after []byte) {
		c, err := Open(path, "store", episode.FormatLimits())
		if err != nil {
			t.Fatal(err)
		}
		before = read()
		if err := fill(c); err != nil {
			t.Fatal(err)
		}
		after = read()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return before, after
	}
	step()
	before, after := step()
	page := os.Getpagesize()
	cut := func(keep func(at int) bool, meta int) int {
		t.Helper()
		b := append(bytes.Clone(before), make([]byte, len(after)-len(before))...)
		for at := 2 * page; at < len(after); at += page {
			if keep(at) {
				copy(b[at:at+page], after[at:])
			}
		}
		copy(b[:meta], after)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return whole(t, path)
	}
	for range 20 {
		if n := cut(func(int) bool { return rand.IntN(2) == 0 }, 0); n != killBatch {
			t.Errorf("%d rows, want %d", n, killBatch)
		}
	}
	everything := func(int) bool { return true }
	for _, torn := range []int{40, page + 40} {
		if n := cut(everything, torn); n != killBatch && n != 2*killBatch {
			t.Errorf("torn at %d: %d rows", torn, n)
		}
	}
	if n := cut(everything, 2*page); n != 2*killBatch {
		t.Errorf("%d rows, want %d", n, 2*killBatch)
	}
}
