package s3_test

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/receiver"
	"cis490/receiver/backendtest"
	"cis490/receiver/local"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/s3"
)

const dir = "/data"

// every breaks every request, which takes minutes; otherwise one in five, from a random one on.
var every = flag.Bool("every", false, "break every request and every call to the disk")

func first() int {
	if *every {
		return 1
	}
	return 1 + rand.IntN(stride())
}

func stride() int {
	if *every {
		return 1
	}
	return 5
}

// bucket opens the server's bucket with its own prefix.
func bucket(t *testing.T, addr, prefix string) *objects.Bucket {
	t.Helper()
	o := s3test.Options(addr)
	o.Prefix = prefix
	b, err := objects.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(fsys disk.FS, dir string, b *objects.Bucket) receiver.Backend {
	log := slog.New(slog.DiscardHandler)
	base := local.Open(local.Options{FS: fsys, Dir: dir, Now: time.Now, Log: log})
	return s3.Open(s3.Options{Base: base, Bucket: b, FS: fsys, Dir: dir, Uploads: 8, Now: time.Now, Log: log})
}

// begin creates an empty store: an id in the data folder, and its mark in the bucket.
func begin(t *testing.T, fsys disk.FS, dir string, b *objects.Bucket) {
	t.Helper()
	s, err := local.Open(local.Options{FS: fsys, Dir: dir, Log: slog.New(slog.DiscardHandler)}).Serve()
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.Mark(t.Context(), b, s.ID(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestBackend_OnAStore: the cases that every backend has to pass.
func TestBackend_OnAStore(t *testing.T) {
	server := s3test.New(t)
	backendtest.Run(t, func(t *testing.T) backendtest.Maker {
		dir := t.TempDir()
		b := bucket(t, server.Addr, t.Name()+"/")
		begin(t, disk.OS{}, dir, b)
		return func() receiver.Backend { return open(disk.OS{}, dir, bucket(t, server.Addr, t.Name()+"/")) }
	})
}

// sweep runs stories in parallel, because each waits most of the time.
func sweep(t *testing.T, stories []func() (int, error)) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	var points atomic.Int64
	for _, story := range stories {
		g.Go(func() error {
			n, err := story()
			points.Add(int64(n))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d points", points.Load())
	if points.Load() < 200/int64(stride()) {
		t.Error("so few points: is anything broken at all?")
	}
}

// TestFault_Backend breaks each request to the store in turn, in each way, once and from then
// on: acknowledged episodes stay stored, and the story can continue.
func TestFault_Backend(t *testing.T) {
	server := s3test.New(t)
	var stories []func() (int, error)
	for _, f := range s3test.Faults() {
		for _, more := range []int{0, 1 << 20} {
			p := s3test.NewProxy(t, server)
			stories = append(stories, func() (int, error) {
				for n := first(); ; n += stride() {
					b := bucket(t, p.Addr, fmt.Sprintf("%s/%s %d %d/", t.Name(), f, more, n))
					d := faultdisk.New(dir)
					begin(t, d, dir, b)
					p.Arm(n, f, more)
					acked, err := backendtest.Story(open(d, dir, b))
					reached := p.Calls() >= n
					p.Arm(0, "", 0)
					if !reached {
						return n, err
					}
					if err := backendtest.After(open(d, dir, b), acked); err != nil {
						return n, fmt.Errorf("%s at request %d and %d more: %w", f, n, more, err)
					}
				}
			})
		}
	}
	sweep(t, stories)
}

// TestCrash_Backend lets every call to the disk fail in turn, in each way, while the
// store works.
func TestCrash_Backend(t *testing.T) {
	server := s3test.New(t)
	var stories []func() (int, error)
	for _, fault := range []faultdisk.Fault{faultdisk.Fail, faultdisk.Short, faultdisk.PowerLoss} {
		for _, survive := range []faultdisk.Survive{faultdisk.Nothing, faultdisk.All} {
			stories = append(stories, func() (int, error) {
				for n := first(); ; n += stride() {
					b := bucket(t, server.Addr, fmt.Sprintf("%s/%d %d %d/", t.Name(), fault, survive, n))
					d := faultdisk.New(dir)
					begin(t, d, dir, b)
					d.Arm(n, fault)
					acked, err := backendtest.Story(open(d, dir, b))
					reached := d.Calls() >= n
					d.Reboot(survive)
					if err == nil && !reached {
						return n, nil
					}
					if err := backendtest.After(open(d, dir, b), acked); err != nil {
						return n, fmt.Errorf("fault %d at call %d, survives %d: %w", fault, n, survive, err)
					}
				}
			})
		}
	}
	sweep(t, stories)
}
