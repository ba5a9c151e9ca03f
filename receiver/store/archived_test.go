package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver/store"
)

// TestArchive_DamagedList: Archive reports a damaged list, and changes neither the list
// nor a tarball.
func TestArchive_DamagedList(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	u := uploads[1]
	if err := r.put(u); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, store.ArchivedDir, string(u.Host))
	if err := os.WriteFile(list, []byte("01AR\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	_, _, err := r.s.Archive(u.Host, map[ident.EpisodeID]ident.Digest{u.Episode: u.Digest})
	if err == nil || !strings.Contains(err.Error(), `"01AR\n" of the list of lab-a is damaged`) {
		t.Errorf("archived: %v", err)
	}
	if b, err := os.ReadFile(list); err != nil || string(b) != "01AR\n" {
		t.Errorf("list is %q, %v", b, err)
	}
	if left := names(t, filepath.Join(dir, store.ArchivedDir)); len(left) != 1 {
		t.Errorf("left %q", left)
	}
	if _, found, err := r.s.Lookup(u.Host, u.Episode); !found || err != nil {
		t.Errorf("found %t, %v", found, err)
	}
}
