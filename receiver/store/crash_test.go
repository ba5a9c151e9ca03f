package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/ident"
	"cis490/receiver/index"
	"cis490/receiver/store"
)

const commit = ident.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

var uploads = []store.Upload{ // content is the episode's id
	upload("lab-a", "01ARZ3NDEKTSV4RRFFQ69G5FA1"),
	upload("lab-a", "01ARZ3NDEKTSV4RRFFQ69G5FA2"),
	upload("lab-b", "01ARZ3NDEKTSV4RRFFQ69G5FA1"),
}

func upload(h ident.Host, id ident.EpisodeID) store.Upload {
	content := string(h) + string(id)
	sum := sha256.Sum256([]byte(content))
	return store.Upload{Host: h, Episode: id, Digest: ident.Digest(hex.EncodeToString(sum[:])), Size: int64(len(content)), Commit: commit}
}

func body(u store.Upload) io.Reader { return strings.NewReader(string(u.Host) + string(u.Episode)) }

func admitted() error { return nil }

// receiver is index and store, as serve opens them.
type receiver struct {
	x *index.Index
	s *store.Store
}

func open(fsys disk.FS, dir string) (*receiver, error) { return openJournaled(fsys, dir, 0) }

// openJournaled is open with uploads of at most so many bytes going through the
// journal.
func openJournaled(fsys disk.FS, dir string, journaled int64) (*receiver, error) {
	x, err := index.Open(fsys, dir, time.Now)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(store.Options{FS: fsys, DataDir: dir, Index: x, Journaled: journaled, Segment: 8 << 10, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return &receiver{x, s}, nil
}

// put is what the server does with an upload: 200 for what is stored, else receive.
func (r *receiver) put(u store.Upload) error {
	have, found, err := r.s.Lookup(u.Host, u.Episode)
	if err != nil {
		return err
	}
	if found {
		if have.Digest != u.Digest {
			return store.ErrConflict
		}
		return nil
	}
	_, _, err = r.s.Receive(u, body(u), admitted)
	return err
}

// check holds what must be true at any time: what was acknowledged is stored
// and has one row, and every row has its file.
func (r *receiver) check(fsys disk.FS, dir string, acked map[store.Upload]bool) error {
	if err := r.s.Settle(); err != nil { // serve does it in the background
		return err
	}
	rows := map[index.Key]int{}
	for row, err := range index.Rows(fsys, dir, time.Time{}) {
		if err != nil {
			return err
		}
		rows[row.Key()]++
		have, found, err := r.s.Lookup(row.Host, row.Episode)
		if err != nil || !found || have.Digest != row.Digest || have.Size != row.Size || row.Commit != commit {
			return fmt.Errorf("row of %s %s: file is %+v, %t, %w", row.Host, row.Episode, have, found, err)
		}
	}
	for _, u := range uploads {
		n := rows[index.Key{Host: u.Host, Episode: u.Episode}]
		if n > 1 || acked[u] && n == 0 {
			return fmt.Errorf("%s %s has %d rows, acknowledged %t", u.Host, u.Episode, n, acked[u])
		}
	}
	return nil
}

// TestCrash_AtEveryStep lets every single call to the disk fail in turn, in
// each way, while three episodes are received; then, with and without a restart,
// nothing that was acknowledged is missing or there twice, and the retries of
// the rest succeed.
func TestCrash_AtEveryStep(t *testing.T) {
	points := 0
	for _, journaled := range []int64{0, 1 << 10} {
		points += crashEverywhere(t, journaled)
	}
	t.Logf("%d crash points", points)
	if points < 1500 {
		t.Errorf("only %d crash points: does the disk count?", points)
	}
}

func crashEverywhere(t *testing.T, journaled int64) (points int) {
	t.Helper()
	for _, fault := range []faultdisk.Fault{faultdisk.Fail, faultdisk.NoSpace, faultdisk.Short, faultdisk.PowerLoss} {
		for _, survive := range []faultdisk.Survive{faultdisk.Nothing, faultdisk.Names, faultdisk.HalfData, faultdisk.All} {
			for _, restart := range []bool{false, true} {
				if fault == faultdisk.PowerLoss && !restart {
					continue
				}
				for n := 1; ; n++ {
					done, err := crashAt(n, journaled, fault, survive, restart)
					if err != nil {
						t.Fatalf("journaled %d, fault %d at call %d, survives %d, restart %t: %v", journaled, fault, n, survive, restart, err)
					}
					if done {
						break
					}
					points++
				}
			}
		}
	}
	return points
}

// crashAt runs the story with a fault at the n-th call; done tells that the
// story needs fewer calls.
func crashAt(n int, journaled int64, fault faultdisk.Fault, survive faultdisk.Survive, restart bool) (done bool, err error) {
	const dir = "/data"
	d := faultdisk.New(dir)
	d.Arm(n, fault)
	acked := map[store.Upload]bool{}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	r, err := openJournaled(d, dir, journaled)
	if err == nil {
		for i, u := range uploads {
			if r.put(u) == nil {
				acked[u] = true
			}
			if i == 1 {
				_ = r.s.Run(stopped) // settles, and ends the journal's file
			}
		}
		_ = r.s.Settle() // what fails here is tried again
	}
	done = d.Calls() < n
	if restart || r == nil {
		d.Reboot(survive)
		if r, err = openJournaled(d, dir, journaled); err != nil {
			return done, fmt.Errorf("open again: %w", err)
		}
	}
	if err := r.check(d, dir, acked); err != nil {
		return done, err
	}
	for _, u := range uploads {
		if err := r.put(u); err != nil {
			return done, fmt.Errorf("retry: %w", err)
		}
		acked[u] = true
	}
	if err := r.check(d, dir, acked); err != nil {
		return done, fmt.Errorf("after the retry: %w", err)
	}
	d.Reboot(faultdisk.Nothing)
	if r, err = openJournaled(d, dir, journaled); err != nil {
		return done, fmt.Errorf("open at last: %w", err)
	}
	if err := r.check(d, dir, acked); err != nil {
		return done, fmt.Errorf("after a power cut at last: %w", err)
	}
	left, err := d.ReadDir(dir + "/staged")
	if err != nil {
		return done, err
	}
	for _, e := range left {
		return done, fmt.Errorf("staged name stays: %s", e.Name())
	}
	return done, nil
}
