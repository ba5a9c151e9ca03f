package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

const commit = ident.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

var uploads = []receiver.Upload{ // content is the episode's id
	upload("lab-a", "01ARZ3NDEKTSV4RRFFQ69G5FA1"),
	upload("lab-a", "01ARZ3NDEKTSV4RRFFQ69G5FA2"),
	upload("lab-b", "01ARZ3NDEKTSV4RRFFQ69G5FA1"),
}

// together are uploads that share a flush, in the crash tests.
var together = []receiver.Upload{
	upload("lab-b", "01ARZ3NDEKTSV4RRFFQ69G5FA2"),
	upload("lab-b", "01ARZ3NDEKTSV4RRFFQ69G5FA3"),
	upload("lab-c", "01ARZ3NDEKTSV4RRFFQ69G5FA1"),
}

var everyUpload = slices.Concat(uploads, together)

func upload(h ident.Host, id ident.EpisodeID) receiver.Upload {
	content := string(h) + string(id)
	sum := sha256.Sum256([]byte(content))
	return receiver.Upload{Host: h, Episode: id, Digest: ident.Digest(hex.EncodeToString(sum[:])), Size: int64(len(content)), Commit: commit}
}

func body(u receiver.Upload) io.Reader { return strings.NewReader(string(u.Host) + string(u.Episode)) }

func admitted() error { return nil }

// rx is index and store, as serve opens them.
type rx struct {
	x receiver.Log[receiver.Entry]
	s *store.Store
}

func open(fsys disk.FS, dir string) (*rx, error) {
	x, err := openIndex(fsys, dir, time.Now)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(store.Options{FS: fsys, DataDir: dir, Index: x, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return &rx{x, s}, nil
}

// put is what the server does with an upload: 200 for what is stored, else receive.
func (r *rx) put(u receiver.Upload) error {
	have, found, err := r.s.Lookup(u.Host, u.Episode)
	if err != nil {
		return err
	}
	if found {
		if have.Digest != u.Digest {
			return receiver.ErrConflict
		}
		return nil
	}
	_, _, err = r.s.Receive(u, body(u), admitted)
	return err
}

// check holds what must be true at any time: what was acknowledged is stored
// and has one row, and every row has its file.
func (r *rx) check(acked map[receiver.Upload]bool) error {
	if err := r.s.Settle(); err != nil { // serve does it in the background
		return err
	}
	rows := map[receiver.Key]int{}
	for row, err := range r.x.Since(time.Time{}) {
		if err != nil {
			return err
		}
		rows[row.Key()]++
		have, found, err := r.s.Lookup(row.Host, row.Episode)
		if err != nil || !found || have.Digest != row.Digest || have.Size != row.Size || row.Commit != commit {
			return fmt.Errorf("row of %s %s: file is %+v, %t, %w", row.Host, row.Episode, have, found, err)
		}
	}
	for _, u := range everyUpload {
		n := rows[receiver.Key{Host: u.Host, Episode: u.Episode}]
		if n > 1 || acked[u] && n == 0 {
			return fmt.Errorf("%s %s has %d rows, acknowledged %t", u.Host, u.Episode, n, acked[u])
		}
	}
	return nil
}

// A next is what happens after a fault.
type next int

const (
	goOn    next = iota
	restart      // as after kill(1)
	reboot       // with a power cut
)

// TestCrash_AtEveryStep lets every single call to the disk fail in turn, in each way, while
// episodes are received, some with one flush. Then, with and without a restart, nothing that
// was acknowledged is missing or there twice, and the retries of the rest succeed.
func TestCrash_AtEveryStep(t *testing.T) {
	points := 0
	for _, fault := range []faultdisk.Fault{faultdisk.Fail, faultdisk.NoSpace, faultdisk.Short, faultdisk.PowerLoss, faultdisk.Torn} {
		for _, survive := range faultdisk.Survivals {
			for _, then := range []next{goOn, restart, reboot} {
				if fault == faultdisk.PowerLoss && then == goOn {
					continue
				}
				if then != reboot && survive != faultdisk.Nothing {
					continue // nothing is cut
				}
				for n := 1; ; n++ {
					done, err := crashAt(n, fault, survive, then)
					if err != nil {
						t.Fatalf("fault %d at call %d, survives %d, then %d: %v", fault, n, survive, then, err)
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

// TestCrash_WhileRecovering cuts the power at every call of the story, and again
// at every call of the start after that.
func TestCrash_WhileRecovering(t *testing.T) {
	points := 0
	for _, survive := range faultdisk.Survivals {
		for _, killed := range []bool{false, true} { // at first
			for n, last := 1, false; !last; n++ {
				for m, recovered := 1, false; !recovered; m++ {
					const dir = "/data"
					d := faultdisk.New(dir)
					d.Arm(n, faultdisk.PowerLoss)
					_, acked := story(d, dir)
					last = d.Calls() < n
					if killed {
						d.Restart()
					} else {
						d.Reboot(survive)
					}
					d.Arm(m, faultdisk.PowerLoss)
					_, err := open(d, dir)
					recovered = d.Calls() < m
					d.Reboot(survive)
					r, err2 := open(d, dir)
					if err2 == nil {
						err2 = r.check(acked)
					}
					if err2 != nil {
						t.Fatalf("cut at call %d (killed: %t), then at %d (%v), survives %d: %v", n, killed, m, err, survive, err2)
					}
					points++
				}
			}
		}
	}
	t.Logf("%d crash points", points)
}

// TestCrash_AfterAFailedFlush cuts the power at every call after a flush that failed, and that
// made rows durable without their tarballs.
func TestCrash_AfterAFailedFlush(t *testing.T) {
	points := 0
	for _, survive := range faultdisk.Survivals {
		for n, last := 1, false; !last; n++ {
			for m, ended := 1, false; !ended; m++ {
				const dir = "/data"
				d := faultdisk.New(dir)
				d.ArmTwice(n, faultdisk.Torn, m)
				r, acked := story(d, dir)
				if r != nil {
					_ = r.s.Settle()
				}
				last, ended = d.Calls() < n, !d.Lost()
				d.Reboot(survive)
				r, err := open(d, dir)
				if err == nil {
					err = r.check(acked)
				}
				if err != nil {
					t.Fatalf("flush failed at call %d, power cut %d later, survives %d: %v", n, m, survive, err)
				}
				points++
			}
		}
	}
	t.Logf("%d crash points", points)
}

// story receives all uploads, as far as the disk lets it; acked are those that were
// acknowledged, and r is nil if the store could not be opened.
func story(d *faultdisk.Disk, dir string) (r *rx, acked map[receiver.Upload]bool) {
	acked = map[receiver.Upload]bool{}
	r, err := open(d, dir)
	if err != nil {
		return nil, acked
	}
	for _, u := range uploads {
		if r.put(u) == nil {
			acked[u] = true
		}
	}
	for i, err := range r.s.ReceiveTogether(together, body) {
		if err == nil {
			acked[together[i]] = true
		}
	}
	return r, acked
}

// crashAt runs the story with a fault at the n-th call; done reports that the story needs
// fewer calls.
func crashAt(n int, fault faultdisk.Fault, survive faultdisk.Survive, then next) (done bool, err error) {
	const dir = "/data"
	d := faultdisk.New(dir)
	d.Arm(n, fault)
	r, acked := story(d, dir)
	if r != nil {
		_ = r.s.Settle() // what fails here is tried again
	}
	done = d.Calls() < n
	if then != goOn || r == nil {
		if then == reboot {
			d.Reboot(survive)
		} else {
			d.Restart()
		}
		if r, err = open(d, dir); err != nil {
			return done, fmt.Errorf("open again: %w", err)
		}
	}
	if err := r.check(acked); err != nil {
		return done, err
	}
	for _, u := range everyUpload {
		if err := r.put(u); err != nil {
			return done, fmt.Errorf("retry: %w", err)
		}
		acked[u] = true
	}
	if err := r.check(acked); err != nil {
		return done, fmt.Errorf("after the retry: %w", err)
	}
	d.Reboot(faultdisk.Nothing)
	if r, err = open(d, dir); err != nil {
		return done, fmt.Errorf("open at last: %w", err)
	}
	if err := r.check(acked); err != nil {
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

// openIndex opens the index of a data folder.
func openIndex(fsys disk.FS, dir string, now func() time.Time) (receiver.Log[receiver.Entry], error) {
	x := local.Open(local.Options{FS: fsys, Dir: dir, Now: now}).Index
	return x, x.Open()
}

// rowsIn yields all rows of its index.
func rowsIn(fsys disk.FS, dir string) iter.Seq2[receiver.Entry, error] {
	return local.Open(local.Options{FS: fsys, Dir: dir}).Index.Since(time.Time{})
}
