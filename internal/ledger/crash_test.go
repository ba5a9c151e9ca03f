package ledger_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"cis490/internal/disk/faultdisk"
	"cis490/internal/ledger"
)

// TestLedger_CrashAtEveryStep fails every single call of a short story in every way, then
// loses power in every way: each acknowledged row is there once, none is torn, and rows can
// be appended again.
func TestLedger_CrashAtEveryStep(t *testing.T) {
	points := 0
	for _, fault := range []faultdisk.Fault{faultdisk.Fail, faultdisk.NoSpace, faultdisk.Short, faultdisk.PowerLoss} {
		for _, survive := range faultdisk.Survivals {
			for at := 1; ; at++ {
				d := faultdisk.New("/d")
				d.Arm(at, fault)
				acked, refused := story(d)
				if d.Calls() < at {
					break // past the end of the story
				}
				points++
				d.Reboot(survive)
				more, _ := story(d)
				verify(t, d, fmt.Sprintf("fault %d at call %d, survive %d", fault, at, survive), append(acked, more...), refused)
			}
		}
	}
	t.Logf("%d crash points", points)
}

// story appends rows until one is refused thrice, and returns the numbers of
// those that were acknowledged and of those that were refused.
func story(d *faultdisk.Disk) (acked, refused []int) {
	now := time.Unix(1_000_000, 0)
	l, err := ledger.Open(ledger.Options{FS: d, Path: "/d/x.jsonl", TimeKey: "at", Perm: 0o640, Now: func() time.Time { return now }})
	if err != nil {
		return nil, nil
	}
	defer func() { _ = l.Close() }()
	flusher, err := d.OpenFlush("/d")
	if err != nil {
		return nil, nil
	}
	first := 100 * (1 + countRows(d))
	for n := first; n < first+6; n++ {
		build := func(at time.Time) any { return row{At: at, N: n, S: "some length to be torn"} }
		var err error
		if n%2 == 0 {
			err = l.Append(build)
		} else {
			err = l.AppendWith([]func(time.Time) any{build}, flusher.Flush)
		}
		if err == nil {
			acked = append(acked, n)
		} else {
			refused = append(refused, n)
		}
		if n == first+1 { // what was acknowledged before and after is kept
			_ = l.Keep(func(ledger.Row) bool { return true })
		}
	}
	return acked, refused
}

func countRows(d *faultdisk.Disk) int {
	n := 0
	for _, err := range ledger.Rows(d, "/d/x.jsonl", "at", time.Time{}) {
		if err == nil {
			n++
		}
	}
	return n
}

func verify(t *testing.T, d *faultdisk.Disk, when string, acked, refused []int) {
	t.Helper()
	seen := map[int]int{}
	for r, err := range ledger.Rows(d, "/d/x.jsonl", "at", time.Time{}) {
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		var v row
		if err := json.Unmarshal(r.Line, &v); err != nil {
			t.Errorf("%s: torn row %q", when, r.Line)
		}
		seen[v.N]++
	}
	for _, n := range acked {
		if seen[n] != 1 {
			t.Errorf("%s: acknowledged row %d is there %d times", when, n, seen[n])
		}
	}
	for _, n := range refused {
		if seen[n] > 1 {
			t.Errorf("%s: refused row %d is there %d times", when, n, seen[n])
		}
	}
}
