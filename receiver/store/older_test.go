package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"cis490/internal/disk"
)

// The data folder of the older Python receiver is used as it is: unknown rows of its
// index are skipped, each tarball gets its row, and none is changed. An episode that a
// host sends again is known.
func TestCompare_TreeOfTheOlderReceiver(t *testing.T) {
	dir := t.TempDir()
	older := `{"schema_version":1,"host_id":"lab-a","episode_id":"01ARZ3NDEKTSV4RRFFQ69G5FA1","sha256":"00","size":7,` +
		`"received_at_wall":1777777777.5}` + "\n" +
		`{"schema_version":1,"host_id":"lab-a","episode_id":"01ARZ3NDEKTSV4RRFFQ69G5FA2","sha256":"00","size":7,"backfilled":true}` + "\n"
	index := filepath.Join(dir, "index.jsonl")
	if err := os.WriteFile(index, []byte(older), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads {
		path := filepath.Join(dir, "episodes", string(u.Host), string(u.Episode)+".tar.zst")
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(string(u.Host)+string(u.Episode)), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	r := openT(t, disk.OS{}, dir)
	c, err := r.s.Compare(t.Context())
	if err != nil || c.Repaired != len(uploads) || c.NoFile != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	for i, row := range rowsOf(t, dir) {
		if !row.Repaired || row.Digest == "" || row.Size == 0 {
			t.Errorf("row %d: %+v", i, row)
		}
	}
	b, err := os.ReadFile(index)
	if err != nil || string(b[:len(older)]) != older {
		t.Errorf("the older rows are not as they were: %v\n%s", err, b)
	}
	for _, u := range uploads {
		if have, found, err := r.s.Lookup(u.Host, u.Episode); err != nil || !found || have.Digest != u.Digest {
			t.Errorf("%s: %+v, %t, %v", u.Episode, have, found, err)
		}
	}
}
