package contacts_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cis490/internal/disk/sickdisk"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
)

// TestOpen_DoesNotForgetWhatItCannotRead: while contacts.json cannot be read, the Recorder
// reports that and does not write; afterwards the file has the facts of before and since.
func TestOpen_DoesNotForgetWhatItCannotRead(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.EACCES} {
		synctest.Test(t, func(t *testing.T) {
			dir, d := t.TempDir(), &sickdisk.Disk{}
			o := options(dir)
			o.Docs = local.Folder(d, dir)
			start := time.Now().UTC()
			b := contacts.Open(o)
			b.Ready(true)
			b.Ping("lab-01", wire.Ping{OS: "linux", BootID: "first", Hardware: &wire.Hardware{CPU: "old"}})
			b.Ping("lab-02", wire.Ping{OS: "linux"})
			b.Accepted("lab-02", "c")
			b.AuthFailed("lab-02", true, "192.0.2.1", wire.NewProblem(wire.CertExpired, ""))
			b.Ping("lab-02", wire.Ping{Leaving: true})
			b.Ping("lab-03", wire.Ping{Leaving: true})
			time.Sleep(time.Minute)
			save(t, b) // the last write before a kill
			before := read(t, dir)

			d.Fail(func(op, path string, _ int64) error {
				if op == "open" && strings.HasSuffix(path, receiver.ContactsDoc) {
					return fault
				}
				return nil
			})
			time.Sleep(time.Minute)
			b = contacts.Open(o)
			if err := b.Unwritten(); !errors.Is(err, fault) {
				t.Errorf("after Open: %v", err)
			}
			time.Sleep(time.Minute)
			b.Ready(true)
			back := time.Now().UTC()
			b.Ping("lab-01", wire.Ping{OS: "linux", BootID: "second", Version: "2"})
			b.Ping("lab-03", wire.Ping{OS: "linux", BootID: "third"})
			b.AuthFailed("lab-02", true, "192.0.2.1", wire.NewProblem(wire.CertExpired, ""))
			b.Ping("lab-04", wire.Ping{OS: "linux"})
			time.Sleep(time.Minute)
			if err := b.Save(); !errors.Is(err, fault) || !errors.Is(b.Unwritten(), fault) {
				t.Errorf("Save: %v", err)
			}
			if got := read(t, dir); !got.WrittenAt.Equal(before.WrittenAt) {
				t.Errorf("the file was written at %s", got.WrittenAt)
			}

			d.Fail(nil)
			save(t, b)
			c := read(t, dir)
			if b.Unwritten() != nil || !c.BeganAt.Equal(start) || !c.Receiver.Ready {
				t.Errorf("%v, began at %s, %+v", b.Unwritten(), c.BeganAt, c.Receiver)
			}
			if all := c.Receiver.Outages; len(all) != 1 || !all[0].From.Equal(before.WrittenAt) || !all[0].To.Equal(back) {
				t.Errorf("outages: %v", all)
			}
			if h := c.Hosts["lab-01"]; h.Version != "2" || h.Hardware.CPU != "old" || len(h.Boots) != 2 || h.Boots[1].ID != "second" {
				t.Errorf("lab-01: %+v", h)
			}
			if h := c.Hosts["lab-02"]; !h.Leaving || !h.LastAccepted.Equal(start) || len(h.Verified) != 1 || h.Verified[0].Count != 2 {
				t.Errorf("lab-02: %+v", h)
			}
			if h := c.Hosts["lab-03"]; h.Leaving || !h.BackAt.Equal(back) {
				t.Errorf("lab-03: %+v", h)
			}
			if c.Hosts["lab-04"] == nil {
				t.Error("lab-04 is missing")
			}
		})
	}
}

// TestOpen_KeepsADamagedFile beside the new one.
func TestOpen_KeepsADamagedFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, receiver.ContactsDoc), []byte(`{"hosts":`), 0o600); err != nil {
		t.Fatal(err)
	}
	b := contacts.Open(options(dir))
	b.Ping("lab-01", wire.Ping{OS: "linux"})
	save(t, b)
	if len(read(t, dir).Hosts) != 1 {
		t.Error("the new file lacks the host")
	}
	if kept, err := os.ReadFile(filepath.Join(dir, contacts.DamagedDoc)); err != nil || string(kept) != `{"hosts":` {
		t.Errorf("kept: %q, %v", kept, err)
	}
}
