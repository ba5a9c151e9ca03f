package authority_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver/authority"
)

// TestNew_TheDiskWithTheCAIsAway: an empty folder on a machine that had a CA is the mount
// point of a disk that is not there, so no CA is made in it. Once the disk is back the CA
// is the old one; a new one takes a person who removes the note.
func TestNew_TheDiskWithTheCAIsAway(t *testing.T) {
	s := newSite(t)
	s.stop()
	dir := filepath.Dir(s.path("x"))
	o := s.options()
	o.Known = authority.KnownFile(filepath.Join(s.dir, "receiver.toml"))
	if err := os.Mkdir(filepath.Dir(o.Known), 0o755); err != nil {
		t.Fatal(err)
	}
	start := func() error {
		a, err := authority.New(o)
		if err == nil {
			err = a.Close()
		}
		return err
	}
	if err := start(); err != nil { // of an older version: the CA is noted now
		t.Fatal(err)
	}
	pin, err := os.ReadFile(o.Known)
	if err != nil || len(pin) != 65 {
		t.Fatalf("%q %v", pin, err)
	}
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := start()
		if err == nil || !strings.Contains(err.Error(), "this machine had one") || !strings.Contains(fault.FixOf(err), "findmnt -T "+dir) ||
			!strings.Contains(fault.FixOf(err), "sudo rm "+o.Known) {
			t.Fatalf("%v: %s", err, fault.FixOf(err))
		}
	}
	if disk.Exists(disk.OS{}, s.path(authority.KeyFile)) {
		t.Error("a CA was made in the mount point")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if err := start(); err != nil {
		t.Errorf("with the disk: %v", err)
	}
	if again, err := os.ReadFile(o.Known); err != nil || string(again) != string(pin) {
		t.Errorf("%q %v", again, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(o.Known); err != nil { // as the fix says
		t.Fatal(err)
	}
	if err := start(); err != nil {
		t.Errorf("a person wants a new one: %v", err)
	}
	if again, err := os.ReadFile(o.Known); err != nil || string(again) == string(pin) {
		t.Errorf("%q %v", again, err)
	}
}
