package store_test

import (
	"syscall"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/receiver/store"
)

// TestRemember_Unread: ids that cannot be read are not overwritten by the id of the store in
// use, so that an older store is recognized afterwards.
func TestRemember_Unread(t *testing.T) {
	const dir, path = "/etc/store", "/etc/store/ids"
	d := faultdisk.New(dir, "/data")
	for _, id := range []string{"older", "last"} {
		if err := store.Remember(d, dir, id); err != nil {
			t.Fatal(err)
		}
	}
	d.Spoil(path, syscall.EIO)
	if err := store.Remember(d, dir, "last"); err == nil {
		t.Error("the ids were overwritten")
	}
	d.Spoil("", nil)
	if err := disk.ReplaceBytes(d, "/data/"+store.IDFile, 0o644, []byte("older\n")); err != nil {
		t.Fatal(err)
	}
	if err := store.Vanished(d, "/data", dir, func() bool { return false }); err == nil {
		t.Error("an older store is accepted")
	}
}
