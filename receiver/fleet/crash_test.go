package fleet

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/receiver/local"
)

// TestRun_CutOffAtEveryCall: the run that detects a fault, or the one that detects its
// end, fails or loses power at any call to the disk. Later runs write the missing rows,
// each transition is sent at least once, and no hour has a row twice.
func TestRun_CutOffAtEveryCall(t *testing.T) {
	points := 0
	for _, fault := range []faultdisk.Fault{faultdisk.NoSpace, faultdisk.Short, faultdisk.PowerLoss} {
		for _, survive := range []faultdisk.Survive{faultdisk.Nothing, faultdisk.HalfData, faultdisk.All} {
			for _, broken := range []int{0, 2} { // which run
				for at := 1; ; at++ {
					name := fmt.Sprintf("fault %d at call %d of run %d, survive %d", fault, at, broken, survive)
					if !cutOff(t, name, at, broken, fault, survive) {
						break
					}
					points++
				}
			}
		}
	}
	t.Logf("%d points", points)
	if points < 60 {
		t.Error("too few points to mean anything")
	}
}

// cutOff runs one such sequence; false if it ended before the call.
func cutOff(t *testing.T, name string, at, broken int, fault faultdisk.Fault, survive faultdisk.Survive) bool {
	t.Helper()
	s := newScene(t)
	d := faultdisk.New(s.dir)
	put := func(content string) {
		if err := disk.ReplaceBytes(d, filepath.Join(s.dir, local.IndexFile), 0o600, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	put(row("lab-01", ago(31*time.Minute)))
	reached := true
	for i := range 4 {
		when := now.Add(time.Duration(i) * 5 * time.Minute)
		if i == 2 {
			put(row("lab-01", ago(31*time.Minute)) + row("lab-01", now.Add(8*time.Minute)))
		}
		if i == broken {
			d.Arm(at, fault)
			_, err := s.run(when, func(o *Options) { o.Backend = on(d, s.dir) })
			reached = d.Calls() >= at
			d.Reboot(survive)
			if err == nil && !reached {
				return false
			}
			continue
		}
		if _, err := s.run(when, func(o *Options) { o.Backend = on(d, s.dir) }); err != nil {
			t.Fatalf("%s: run %d: %v", name, i, err)
		}
	}
	count := map[string]int{}
	for a, err := range on(d, s.dir).Alerts.Since(time.Time{}) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		count[a.State]++
	}
	sent := strings.Join(s.sent, "\n")
	if count[Firing] != 1 || count[Resolved] != 1 || !strings.Contains(sent, "state=firing") || !strings.Contains(sent, "state=resolved") {
		t.Errorf("%s: rows %v, sent %q", name, count, s.sent)
	}
	return reached
}
