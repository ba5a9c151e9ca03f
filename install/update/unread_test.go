package update_test

import (
	"syscall"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/fault"
)

// TestNew_UnreadState: a state that cannot be read for a while is not overwritten, so that
// no older release is tried afterwards. After an hour, the machine is updated again.
func TestNew_UnreadState(t *testing.T) {
	d := faultdisk.New("/opt")
	r := newHarness(t, d, "/opt")
	r.publish("v2", 2)
	for range 12 {
		r.run()
	}
	r.want("before", "v2", "v2")
	state := r.path("state", "autoupdate.json")
	read := func(path string) string {
		b, err := disk.ReadFile(d, path, disk.Small)
		must(t, err)
		return string(b)
	}
	before := read(state)
	d.Spoil(state, syscall.EIO)
	unread := func(runs int) {
		t.Helper()
		for range runs {
			r.now = r.now.Add(5 * time.Minute)
			if _, err := r.try(); fault.CodeOf(err) != fault.TempFail || fault.FixOf(err) == "" {
				t.Fatalf("%v", err)
			}
		}
	}
	unread(11)
	d.Spoil("", nil)
	if after := read(state); after != before {
		t.Errorf("the state was\n%s\nand is\n%s", before, after)
	}
	r.publish("v1", 1)
	r.run()
	r.want("after an older offer", "v2", "v2")

	// The sector stays bad.
	before = read(state)
	d.Spoil(state, syscall.EIO)
	unread(12)
	r.publish("v3", 3)
	r.run()
	d.Spoil("", nil)
	if got := read(state + disk.Damaged); got != before {
		t.Errorf("set aside: %s", got)
	}
	for range 12 {
		r.run()
	}
	r.want("in the end", "v3", "v3")
}
