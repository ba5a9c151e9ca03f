package spool_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/ident"
)

// TestSaveState_Unread: a state that could not be read is not overwritten. Once it can be
// read, what the program learned since is added. A damaged one is set aside.
func TestSaveState_Unread(t *testing.T) {
	const path = "/data/shipper.json"
	d := faultdisk.New("/data")
	a, b := ident.Commit(strings.Repeat("a", 40)), ident.Commit(strings.Repeat("b", 40))
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	now := at
	sp := &spool.Spool{Options: spool.Options{FS: d, Dir: "/data", Now: func() time.Time { return now }}}
	first := spool.State{StoreID: "store-1", LastShipped: at, Holds: map[ident.Commit]spool.Hold{a: {Policy: "p"}}}
	load := func() (spool.State, error) { return spool.LoadState(d, "/data") }
	if err := sp.SaveState(&first); err != nil {
		t.Fatal(err)
	}

	d.Spoil(path, syscall.EIO)
	st, err := load()
	if err == nil {
		t.Fatal("the state was read")
	}
	st.Holds = map[ident.Commit]spool.Hold{b: {Policy: "q"}}
	if err := sp.SaveState(&st); err == nil {
		t.Error("the state was overwritten")
	}
	d.Spoil("", nil)
	if old, err := load(); err != nil || old.StoreID != "store-1" || len(old.Holds) != 1 {
		t.Errorf("%+v %v", old, err)
	}
	if err := sp.SaveState(&st); err != nil {
		t.Fatal(err)
	}
	if all, err := load(); err != nil || all.StoreID != "store-1" || !all.LastShipped.Equal(at) || len(all.Holds) != 2 {
		t.Errorf("%+v %v", all, err)
	}
	delete(st.Holds, a)
	if err := sp.SaveState(&st); err != nil {
		t.Fatal(err)
	}
	if all, err := load(); err != nil || len(all.Holds) != 1 {
		t.Errorf("a hold comes back: %+v %v", all, err)
	}

	// The sector stays bad.
	d.Spoil(path, syscall.EIO)
	if st, err = load(); err == nil {
		t.Fatal("the state was read")
	}
	for now = at; now.Sub(at) < disk.UnreadFor; now = now.Add(10 * time.Minute) {
		if err := sp.SaveState(&st); err == nil {
			t.Fatal("the state was overwritten")
		}
	}
	if err := sp.SaveState(&st); err != nil {
		t.Errorf("after an hour: %v", err)
	}
	d.Spoil("", nil)

	if err := disk.ReplaceBytes(d, path, 0o644, []byte("{half")); err != nil {
		t.Fatal(err)
	}
	if st, err = load(); err == nil {
		t.Fatal("it was decoded")
	}
	if err := sp.SaveState(&st); err != nil {
		t.Fatal(err)
	}
	if aside, err := disk.ReadFile(d, path+disk.Damaged, disk.Small); err != nil || string(aside) != "{half" {
		t.Errorf("%s %v", aside, err)
	}
}
