package archive_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/archive"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

const (
	data   = "/data"
	target = "/archive"
)

var episodes = []receiver.Key{
	{Host: "lab-a", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
	{Host: "lab-a", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FA2"},
	{Host: "lab-b", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
}

func content(k receiver.Key) string { return strings.Repeat(string(k.Host)+string(k.Episode), 5) }

func digest(k receiver.Key) ident.Digest {
	sum := sha256.Sum256([]byte(content(k)))
	return ident.Digest(hex.EncodeToString(sum[:]))
}

// rx is index and store, as serve opens them.
type rx struct {
	x receiver.Log[receiver.Entry]
	s *store.Store
}

func open(d *faultdisk.Disk) (*rx, error) {
	x, err := openIndex(d, data, time.Now)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(store.Options{FS: d, DataDir: data, Index: x, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	return &rx{x, s}, err
}

func (r *rx) put(k receiver.Key) error {
	u := receiver.Upload{Host: k.Host, Episode: k.Episode, Digest: digest(k), Size: int64(len(content(k)))}
	_, _, err := r.s.Receive(u, strings.NewReader(content(k)), func() error { return nil })
	return err
}

func (r *rx) archive(d *faultdisk.Disk) (archive.Result, error) {
	return archive.Run(context.Background(), archive.Options{
		FS: d, Backend: local.Open(local.Options{FS: d, Dir: data}), To: target, Limit: 1 << 20, Before: time.Now().Add(time.Hour),
		Archive: func(_ context.Context, h ident.Host, pairs []wire.Pair) ([]ident.EpisodeID, error) {
			want := map[ident.EpisodeID]ident.Digest{}
			for _, p := range pairs {
				want[p.Episode] = p.Digest
			}
			done, _, err := r.s.Archive(h, want)
			return done, err
		},
	})
}

// check holds what must be true at any time: each episode is known, its tarball
// is in the store or whole at the target, and each has its row once.
func (r *rx) check(d *faultdisk.Disk, all bool) error {
	rows, archived := map[receiver.Key]int{}, map[receiver.Key]int{}
	for row, err := range rowsIn(d, data) {
		if err != nil {
			return err
		}
		if row.Digest != digest(row.Key()) || row.Size != int64(len(content(row.Key()))) {
			return fmt.Errorf("row %+v", row)
		}
		if row.Archived {
			archived[row.Key()]++
		} else {
			rows[row.Key()]++
		}
	}
	for _, k := range episodes {
		name := "/" + string(k.Host) + "/" + string(k.Episode) + ".tar.zst"
		row, found, err := r.s.Lookup(k.Host, k.Episode)
		if err != nil || !found || row.Digest != digest(k) || row.Size != int64(len(content(k))) {
			return fmt.Errorf("%v is known as %+v, %t, %w", k, row, found, err)
		}
		here, err := disk.ReadFile(d, data+"/episodes"+name, 1<<10)
		if err == nil && string(here) != content(k) {
			return fmt.Errorf("%v in the store is %q", k, here)
		}
		if err != nil || all {
			if copied, err := disk.ReadFile(d, target+name, 1<<10); err != nil || string(copied) != content(k) {
				return fmt.Errorf("%v at the target is %q, %w", k, copied, err)
			}
		}
		if rows[k] != 1 || archived[k] > 1 || all && (archived[k] != 1 || err == nil) {
			return fmt.Errorf("%v has %d rows and %d archived ones; its tarball: %w", k, rows[k], archived[k], err)
		}
	}
	return nil
}

// TestCrash_AtEveryStep lets every single call to the disk fail in turn, in each
// way, while three episodes are archived, by the command and by serve. Then, with
// and without a restart, none is lost, and the next run brings it to its end.
func TestCrash_AtEveryStep(t *testing.T) {
	points := 0
	for _, fault := range []faultdisk.Fault{faultdisk.Fail, faultdisk.NoSpace, faultdisk.Short, faultdisk.PowerLoss} {
		for _, survive := range faultdisk.Survivals {
			for _, restart := range []bool{false, true} {
				if fault == faultdisk.PowerLoss && !restart {
					continue
				}
				for n := 1; ; n++ {
					done, err := crashAt(n, fault, survive, restart)
					if err != nil {
						t.Fatalf("fault %d at call %d, survives %d, restart %t: %v", fault, n, survive, restart, err)
					}
					if done {
						break
					}
					points++
				}
			}
		}
	}
	t.Logf("%d crash points", points)
	if points < 500 {
		t.Errorf("only %d crash points: does the disk count?", points)
	}
}

func crashAt(n int, fault faultdisk.Fault, survive faultdisk.Survive, restart bool) (done bool, err error) {
	d := faultdisk.New(data, target)
	r, err := open(d)
	if err != nil {
		return false, err
	}
	for _, k := range episodes {
		if err := r.put(k); err != nil {
			return false, err
		}
	}
	d.Arm(n, fault)
	_, _ = r.archive(d) // what fails here is done by the next run
	done = d.Calls() < n
	if restart {
		d.Reboot(survive)
		if r, err = open(d); err != nil {
			return done, fmt.Errorf("open again: %w", err)
		}
	}
	if err := r.check(d, false); err != nil {
		return done, err
	}
	if c, err := r.s.Compare(context.Background()); err != nil || c.NoFile > 0 || c.Repaired > 0 {
		return done, fmt.Errorf("compared: %+v, %w", c, err)
	}
	if got, err := r.archive(d); err != nil || len(got.Left) > 0 {
		return done, fmt.Errorf("the next run: %+v, %w", got, err)
	}
	if err := r.check(d, true); err != nil {
		return done, fmt.Errorf("after the next run: %w", err)
	}
	d.Reboot(faultdisk.Nothing)
	if r, err = open(d); err != nil {
		return done, fmt.Errorf("open at last: %w", err)
	}
	if c, err := r.s.Compare(context.Background()); err != nil || c.NoFile > 0 || c.Repaired > 0 {
		return done, fmt.Errorf("compared at last: %+v, %w", c, err)
	}
	// The tarball exists again if its removal was not durable, which is harmless.
	if got, err := r.archive(d); err != nil || len(got.Left) > 0 {
		return done, fmt.Errorf("the last run: %+v, %w", got, err)
	}
	return done, r.check(d, true)
}

// TestRun_LeavesWhatItMustNotTouch: an episode with another file at its target, and
// one that is too young, stay.
func TestRun_LeavesWhatItMustNotTouch(t *testing.T) {
	d := faultdisk.New(data, target, target+"/lab-a")
	r, err := open(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range episodes {
		if err := r.put(k); err != nil {
			t.Fatal(err)
		}
	}
	other := target + "/lab-a/" + string(episodes[0].Episode) + ".tar.zst"
	if err := disk.ReplaceBytes(d, other, 0o600, []byte("other")); err != nil {
		t.Fatal(err)
	}
	got, err := r.archive(d)
	if err != nil || got.Episodes != 2 || len(got.Left) != 1 || !strings.Contains(got.Left[0], "other content") {
		t.Errorf("%+v, %v", got, err)
	}
	if b, err := disk.ReadFile(d, other, 100); err != nil || string(b) != "other" {
		t.Errorf("overwritten: %q, %v", b, err)
	}
	if err := r.check(d, false); err != nil {
		t.Error(err)
	}
	got, err = archive.Run(
		t.Context(),
		archive.Options{
			FS:      d,
			Backend: local.Open(local.Options{FS: d, Dir: data}),
			To:      target,
			Limit:   1 << 20,
			Before:  time.Now().Add(-time.Hour),
		},
	)
	if err != nil || got.Episodes != 0 {
		t.Errorf("young ones: %+v, %v", got, err)
	}
	// Serve has another digest than the copy: it lets go of nothing.
	k := episodes[0]
	if done, _, err := r.s.Archive(
		k.Host, map[ident.EpisodeID]ident.Digest{k.Episode: digest(episodes[1]), "01ARZ3NDEKTSV4RRFFQ69G5FA9": digest(k)},
	); err != nil ||
		len(done) > 0 {
		t.Errorf("archived %v, %v", done, err)
	}
	if err := r.check(d, false); err != nil {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := archive.Run(
		cancelled,
		archive.Options{
			FS: d, Backend: local.Open(local.Options{FS: d, Dir: data}), To: target, Limit: 1 << 20, Before: time.Now().Add(time.Hour),
		},
	); !errors.Is(
		err,
		context.Canceled,
	) {
		t.Errorf("cancelled: %v", err)
	}
}

// openIndex opens the index of a data folder.
func openIndex(fsys disk.FS, dir string, now func() time.Time) (receiver.Log[receiver.Entry], error) {
	x := local.Open(local.Options{FS: fsys, Dir: dir, Now: now}).Index
	return x, x.Open()
}

// rowsIn yields all rows of its index.
func rowsIn(fsys disk.FS, dir string) iter.Seq2[receiver.Entry, error] {
	return local.Open(local.Options{FS: fsys, Dir: dir}).Index.Since(time.Time{})
}
