package spool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

const (
	dir                    = "/data"
	one    ident.EpisodeID = "01J00000000000000000000001"
	commit ident.Commit    = "1111111111111111111111111111111111111111"
)

// packing packs as the shipper does.
func packing(t testing.TB) spool.Packing {
	p, err := episode.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	return spool.Packing{Packer: p}
}

// record writes a complete episode, durably.
func record(t *testing.T, fsys disk.FS, id ident.EpisodeID) {
	t.Helper()
	at := path.Join(dir, "episodes", string(id))
	meta, err := json.Marshal(episode.Meta{
		SchemaVersion: 1, Episode: id, Host: "lab-01", Experiment: ident.Digest(strings.Repeat("0", 64)),
		Code: episode.Code{Commit: commit},
	})
	err = errors.Join(err, disk.MkdirAll(fsys, at, 0o770),
		disk.ReplaceBytes(fsys, path.Join(at, episode.MetaFile), 0o660, meta),
		disk.ReplaceBytes(fsys, path.Join(at, episode.DoneMarker), 0o660, nil))
	if err != nil {
		t.Fatal(err)
	}
}

func open(fsys disk.FS) (*spool.Spool, error) {
	return spool.Open(spool.Options{
		FS: fsys, Dir: dir, Now: func() time.Time { return time.Unix(1.7e9, 0) },
		Logger: slog.New(slog.DiscardHandler),
	})
}

// step is a transition with the states before and after it.
type step struct {
	name  string
	setup func(*testing.T, disk.FS, *spool.Spool)
	do    func(disk.FS, *spool.Spool) error
	// after is how often the episode is in each place once the step was repeated to its
	// end.
	after string
}

func steps(t testing.TB) []step {
	p := packing(t)
	tarball := func(_ disk.FS, s *spool.Spool) (spool.Tarball, error) {
		return s.Tarball(context.Background(), p, one)
	}
	packed := func(t *testing.T, f disk.FS, s *spool.Spool) {
		record(t, f, one)
		if _, err := tarball(f, s); err != nil {
			t.Fatal(err)
		}
	}
	retire := func(f disk.FS, s *spool.Spool) error {
		t, err := tarball(f, s)
		if errors.Is(err, os.ErrNotExist) {
			return nil // gone already
		}
		if err != nil {
			return err
		}
		return retireOne(s, spool.Acknowledged{Tarball: t, Receipt: wire.Receipt{Episode: one, Digest: t.Digest, Size: t.Size, StoreID: "s"}})
	}
	retired := func(t *testing.T, f disk.FS, s *spool.Spool) {
		packed(t, f, s)
		if err := retire(f, s); err != nil {
			t.Fatal(err)
		}
	}
	aside := func(k wire.Kind) func(disk.FS, *spool.Spool) error {
		return func(_ disk.FS, s *spool.Spool) error {
			return s.Quarantine(spool.Reason{Episode: one, Kind: k, Detail: "because", Fix: "do"})
		}
	}
	putBack := func(_ disk.FS, s *spool.Spool) error {
		rows, err := s.Shipped()
		for _, r := range rows {
			err = errors.Join(err, s.PutBack(r, "s2"))
		}
		return err
	}
	return []step{
		{
			"pack", func(t *testing.T, f disk.FS, _ *spool.Spool) { record(t, f, one) },
			func(f disk.FS, s *spool.Spool) error { _, err := tarball(f, s); return err }, "dir=episodes tarball=outbox",
		},
		{"repack", packed, func(f disk.FS, s *spool.Spool) error {
			first, err := tarball(f, s)
			if err == nil {
				_, err = s.Repack(context.Background(), p, first)
			}
			return err
		}, "dir=episodes tarball=outbox"},
		{"retire", packed, retire, "dir= tarball=shipped"},
		{"quarantine", packed, aside(wire.TooLarge), "dir=quarantine tarball="},
		{"conflict", packed, aside(wire.OtherDigest), "dir=quarantine tarball=quarantine"},
		{"release", func(t *testing.T, f disk.FS, s *spool.Spool) {
			packed(t, f, s)
			if err := aside(wire.TooLarge)(f, s); err != nil {
				t.Fatal(err)
			}
		}, func(_ disk.FS, s *spool.Spool) error { return s.Release(one) }, "dir=episodes tarball="},
		{"put back", retired, putBack, "dir= tarball=outbox"},
		{"shorten", func(t *testing.T, f disk.FS, s *spool.Spool) {
			retired(t, f, s)
			history(t, s)
		}, func(_ disk.FS, s *spool.Spool) error { return s.Shorten() }, "dir= tarball=shipped"},
		{"quarantine without directory", func(t *testing.T, f disk.FS, s *spool.Spool) {
			retired(t, f, s)
			if err := putBack(f, s); err != nil {
				t.Fatal(err)
			}
		}, aside(wire.TooLarge), "dir= tarball=quarantine"},
	}
}

func retireOne(s *spool.Spool, a spool.Acknowledged) error {
	if err := s.SaveReceipts([]spool.Acknowledged{a}); err != nil {
		return err
	}
	return s.Clear(a.Tarball.Episode)
}

// history retires and prunes many episodes, of which only receipts are left.
func history(t *testing.T, s *spool.Spool) {
	t.Helper()
	for n := range 120 {
		id := ident.EpisodeID(fmt.Sprintf("00J%023d", n))
		err := retireOne(s, spool.Acknowledged{
			Tarball: spool.Tarball{Episode: id, Digest: ident.Digest(strings.Repeat("0", 64))},
			Receipt: wire.Receipt{Episode: id},
		})
		if err := errors.Join(err, s.Prune(id)); err != nil {
			t.Fatal(err)
		}
	}
}

// places returns where the directory and the tarball are.
func places(f disk.FS) string {
	var dirs, tarballs []string
	for _, d := range []string{"episodes/" + string(one), "quarantine/" + string(one) + "/episode"} {
		if disk.Exists(f, path.Join(dir, d, episode.DoneMarker)) {
			dirs = append(dirs, strings.SplitN(d, "/", 2)[0])
		}
	}
	for _, p := range []string{"outbox", "shipped", "quarantine/" + string(one)} {
		if disk.Exists(f, path.Join(dir, p, string(one)+wire.TarballSuffix)) {
			tarballs = append(tarballs, strings.SplitN(p, "/", 2)[0])
		}
	}
	return fmt.Sprintf("dir=%s tarball=%s", strings.Join(dirs, "+"), strings.Join(tarballs, "+"))
}

// TestCrash stops each transition at each of its calls, in each way. After a restart the
// complete episode is somewhere, and the repeated transition ends as if it had not been
// stopped.
func TestCrash(t *testing.T) {
	faults := map[string]func(f *faultdisk.Disk, n int) (reboot func()){
		"killed": func(f *faultdisk.Disk, n int) func() {
			f.Arm(n, faultdisk.PowerLoss)
			return func() { f.Reboot(faultdisk.All) }
		},
		"power": func(f *faultdisk.Disk, n int) func() {
			f.Arm(n, faultdisk.PowerLoss)
			return func() { f.Reboot(faultdisk.Names) }
		},
		"names lost": func(f *faultdisk.Disk, n int) func() {
			f.Arm(n, faultdisk.PowerLoss)
			return func() { f.Reboot(faultdisk.Nothing) }
		},
		"half": func(f *faultdisk.Disk, n int) func() {
			f.Arm(n, faultdisk.PowerLoss)
			return func() { f.Reboot(faultdisk.HalfData) }
		},
		"i/o error": func(f *faultdisk.Disk, n int) func() {
			f.Arm(n, faultdisk.Fail)
			return func() { f.Arm(0, faultdisk.Fail) }
		},
		"disk full": func(f *faultdisk.Disk, n int) func() {
			f.Arm(n, faultdisk.NoSpace)
			return func() { f.Arm(0, faultdisk.Fail) }
		},
		"short": func(f *faultdisk.Disk, n int) func() {
			f.Arm(n, faultdisk.Short)
			return func() { f.Arm(0, faultdisk.Fail) }
		},
	}
	for _, st := range steps(t) {
		for name, fault := range faults {
			t.Run(st.name+"/"+name, func(t *testing.T) {
				for n := 1; ; n++ {
					f := faultdisk.New("/")
					s, err := open(f)
					if err != nil {
						t.Fatal(err)
					}
					st.setup(t, f, s)
					reboot := fault(f, n)
					cut := st.do(f, s)
					done := f.Calls() < n
					reboot()
					s = again(t, f, n)
					if places(f) == "dir= tarball=" {
						t.Fatalf("call %d (%v): the episode is lost", n, cut)
					}
					if places(f) != st.after {
						if err := st.do(f, s); err != nil {
							t.Fatalf("call %d (%v): not done again: %v", n, cut, err)
						}
					}
					s = again(t, f, n)
					if got := places(f); got != st.after {
						t.Fatalf("call %d (%v): %s, want %s", n, cut, got, st.after)
					}
					if strings.Contains(st.after, "quarantine") {
						if r, err := s.ReasonOf(one); err != nil || r.Detail != "because" {
							t.Fatalf("call %d (%v): reason %+v, %v", n, cut, r, err)
						}
					}
					if rows, err := s.Shipped(); strings.Contains(st.after, "shipped") && (err != nil || len(rows) != 1) {
						t.Fatalf("call %d (%v): receipts %v, %v", n, cut, rows, err)
					}
					noOrphans(t, f, n)
					if done {
						return
					}
				}
			})
		}
	}
}

// again opens the spool as after a restart.
func again(t *testing.T, f disk.FS, n int) *spool.Spool {
	t.Helper()
	s, err := open(f)
	if err == nil {
		_, err = s.Recover()
	}
	if err != nil {
		t.Fatalf("call %d: restart: %v", n, err)
	}
	return s
}

// noOrphans asserts that the outbox has only tarballs and their digests.
func noOrphans(t *testing.T, f disk.FS, n int) {
	t.Helper()
	entries, err := f.ReadDir(path.Join(dir, "outbox"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); name != string(one)+wire.TarballSuffix &&
			(name != string(one)+".json" || !strings.Contains(places(f), "tarball=outbox")) {
			t.Fatalf("call %d: %s is left in the outbox", n, name)
		}
	}
}

// TestShorten: what is read at each start depends on what is kept, not on the history.
func TestShorten(t *testing.T) {
	f := faultdisk.New("/")
	s, err := open(f)
	if err != nil {
		t.Fatal(err)
	}
	record(t, f, one)
	tarball, err := s.Tarball(t.Context(), packing(t), one)
	if err == nil {
		err = retireOne(s, spool.Acknowledged{Tarball: tarball, Receipt: wire.Receipt{Episode: one, StoreID: "s"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	history(t, s)
	if err := s.Shorten(); err != nil {
		t.Fatal(err)
	}
	b, err := disk.ReadFile(f, path.Join(dir, "shipped", "receipts.jsonl"), 1<<20)
	if n := bytes.Count(b, []byte("\n")); err != nil || n != 2 {
		t.Errorf("%d receipts are left, %v; want that of the kept one, and the last", n, err)
	}
	if after, err := s.Shipped(); err != nil || !cmp.Equal(before, after) {
		t.Errorf("shipped %v, %v; want %v", after, err, before)
	}
}

// A digest that was sent once must be sent again, whatever the packer would make of the
// directory now.
func TestTarball_IsNotPackedTwice(t *testing.T) {
	f := faultdisk.New("/")
	s, err := open(f)
	if err != nil {
		t.Fatal(err)
	}
	record(t, f, one)
	first, err := s.Tarball(t.Context(), packing(t), one)
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.ReplaceBytes(f, path.Join(dir, "outbox", string(one)+".json"), 0o640, []byte(`{"torn`)); err != nil {
		t.Fatal(err)
	}
	f.Reboot(faultdisk.Names)
	s = again(t, f, 0)
	second, err := s.Tarball(t.Context(), spool.Packing{}, one)
	first.Content = "" // known only to who packed it
	if err != nil || !reflect.DeepEqual(second, first) {
		t.Errorf("got %+v, %v; want %+v", second, err, first)
	}
}
