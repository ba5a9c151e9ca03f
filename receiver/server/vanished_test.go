package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/wire"
	"cis490/receiver/store"
)

// TestServe_AVanishedStoreIsNotMadeAnew: the disk with the data is not mounted, so its
// mount point is an empty folder, or has an older store from before there was a disk.
// serve is not ready, stores nothing there, and is ready once the disk is back, or once
// a person has pasted the fix.
func TestServe_AVanishedStoreIsNotMadeAnew(t *testing.T) {
	for name, older := range map[string]bool{"empty": false, "an older store": true} {
		t.Run(name, func(t *testing.T) {
			r := newHarness(t, func(r *harness) { must(t, os.Mkdir(filepath.Join(r.dir, "store"), 0o755)) })
			a := r.enrol("lab-a")
			upload := func() (int, wire.Kind) {
				status, kind, _ := a.do(a.request(ep1, "one"))
				return status, kind
			}
			readyz := func() string {
				_, _, detail := a.do(r.get(wire.ReadyzPath))
				return detail
			}
			data, away := r.config.DataDir, r.config.DataDir+".away"
			another := func() { // as the fix, or restore, does
				must(t, store.ExpectAnother(disk.OS{}, store.KnownDir(filepath.Join(r.dir, "receiver.toml"))))
			}
			if older { // the disk comes after the first start
				r.stop()
				must(t, os.Rename(data, data+".older"))
				another()
				r.start()
			}
			if status, _ := upload(); status != 201 {
				t.Fatalf("before: %d", status)
			}
			r.stop()
			must(t, os.Rename(data, away))
			if older {
				must(t, os.Rename(data+".older", data))
			} else {
				must(t, os.Mkdir(data, 0o755))
			}
			r.start()
			if status, kind := upload(); status != 503 || kind != wire.NotReady {
				t.Errorf("an upload without the disk: %d %s", status, kind)
			}
			if got := readyz(); !strings.Contains(got, "store") || !strings.Contains(got, data) {
				t.Errorf("readyz: %s", got)
			}
			if !older {
				if left := strings.Join(entries(t, data), " "); left != "" {
					t.Errorf("left in the mount point: %s", left)
				}
			}
			must(t, os.Rename(data, data+".point"))
			must(t, os.Rename(away, data))
			r.eventually("the disk is back", func() bool { status, _ := upload(); return status == 200 })
			r.stop()

			// The disk is gone for good: the fix names what to remove.
			must(t, os.Rename(data, away))
			must(t, os.Rename(data+".point", data))
			r.start()
			res, err := a.client.Do(r.get(wire.ReadyzPath))
			must(t, err)
			p, err := wire.ReadLocalProblem(res)
			must(t, err)
			must(t, res.Body.Close())
			if !strings.Contains(p.Fix, "sudo mkdir "+filepath.Join(r.dir, "store", "new")) {
				t.Errorf("the fix is %q", p.Fix)
			}
			another()
			r.eventually("it is used", func() bool { status, _ := upload(); return status == 201 })
		})
	}
}

// TestServe_AStoreThatWasBroughtIsTaken: one that was never used here, as after a move
// of the receiver; and one whose store_id alone is gone, as its index shows.
func TestServe_AStoreThatWasBroughtIsTaken(t *testing.T) {
	for name, change := range map[string]func(data string) error{
		"moved here": func(data string) error {
			return os.WriteFile(filepath.Join(data, "store_id"), []byte("of-another-machine\n"), 0o640)
		},
		"without an id": func(data string) error { return os.Remove(filepath.Join(data, "store_id")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newHarness(t, func(r *harness) { must(t, os.Mkdir(filepath.Join(r.dir, "store"), 0o755)) })
			a := r.enrol("lab-a")
			if status, _, _ := a.do(a.request(ep1, "one")); status != 201 {
				t.Fatalf("before: %d", status)
			}
			r.stop()
			must(t, change(r.config.DataDir))
			for range 2 { // and at the start after it
				r.start()
				if status, _, detail := a.do(r.get(wire.ReadyzPath)); status != 200 {
					t.Errorf("readyz: %d %s", status, detail)
				}
				r.stop()
			}
		})
	}
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}
