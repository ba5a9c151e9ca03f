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

// TestNew_TheDiskWithTheCAIsAway: on a machine that had a CA, an empty folder is the mount
// point of a missing disk, so New fails. With the disk New uses the old CA. A person who
// removes the recorded pin gets a new CA.
func TestNew_TheDiskWithTheCAIsAway(t *testing.T) {
	s := newHarness(t)
	s.stop()
	dir := filepath.Dir(s.path("x"))
	o := s.options()
	o.PinFile = authority.PinFile(filepath.Join(s.dir, "receiver.toml"))
	if err := os.Mkdir(filepath.Dir(o.PinFile), 0o755); err != nil {
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
	pin, err := os.ReadFile(o.PinFile)
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
			!strings.Contains(fault.FixOf(err), "sudo rm "+o.PinFile) {
			t.Fatalf("%v: %s", err, fault.FixOf(err))
		}
	}
	if disk.Exists(disk.OS{}, s.path(authority.KeyFile)) {
		t.Error("a CA was created in the mount point")
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
	if again, err := os.ReadFile(o.PinFile); err != nil || string(again) != string(pin) {
		t.Errorf("%q %v", again, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(o.PinFile); err != nil { // as the fix says
		t.Fatal(err)
	}
	if err := start(); err != nil {
		t.Errorf("without the recorded pin: %v", err)
	}
	if again, err := os.ReadFile(o.PinFile); err != nil || string(again) == string(pin) {
		t.Errorf("%q %v", again, err)
	}
}
