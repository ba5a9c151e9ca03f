package local_test

import (
	"log/slog"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/receiver"
	"cis490/receiver/backendtest"
	"cis490/receiver/local"
)

func open(fsys disk.FS, dir string) receiver.Backend {
	return local.Open(local.Options{FS: fsys, Dir: dir, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
}

// TestBackend_OnADisk: the machine's own disk.
func TestBackend_OnADisk(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backendtest.Maker {
		dir := t.TempDir()
		return func() receiver.Backend { return open(disk.OS{}, dir) }
	})
}

// TestCrash_Backend makes each call to the disk fail in turn, in each way: acknowledged
// data exists, rows of one Append stay together, and the story can continue.
func TestCrash_Backend(t *testing.T) {
	points := 0
	for _, fault := range []faultdisk.Fault{faultdisk.Fail, faultdisk.NoSpace, faultdisk.Short, faultdisk.PowerLoss} {
		for _, survive := range faultdisk.Survivals {
			for n := 1; ; n++ {
				const dir = "/data"
				d := faultdisk.New(dir)
				d.Arm(n, fault)
				acked, err := backendtest.Story(open(d, dir))
				reached := d.Calls() >= n
				d.Reboot(survive)
				if err == nil && !reached {
					break
				}
				points++
				if err := backendtest.After(open(d, dir), acked); err != nil {
					t.Fatalf("fault %d at call %d, survives %d: %v", fault, n, survive, err)
				}
			}
		}
	}
	t.Logf("%d crash points", points)
	if points < 500 {
		t.Errorf("only %d crash points: does the disk count?", points)
	}
}
