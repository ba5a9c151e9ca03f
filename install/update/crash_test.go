package update_test

import (
	"errors"
	"testing"
	"time"

	"aead.dev/minisign"

	"cis490/install/update"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/manifest"
)

// signRaw signs any text with minisign itself.
func signRaw(t testing.TB, k manifest.SecretKey, manifest string) string {
	t.Helper()
	text, err := k.File()
	must(t, err)
	var private minisign.PrivateKey
	must(t, private.UnmarshalText(text))
	return string(minisign.Sign(private, []byte(manifest)))
}

// TestCrash_AtEveryStep loses power, or fails, at every single call of an update that
// succeeds and of one that is rolled back. At every moment the target of current runs;
// afterwards the machine reaches the same end as without the fault.
func TestCrash_AtEveryStep(t *testing.T) {
	for name, c := range map[string]struct {
		bad  bool
		ends string
	}{"update": {false, "v2"}, "rollback": {true, "v1"}} {
		for fault, survive := range map[faultdisk.Fault][]faultdisk.Survive{
			faultdisk.PowerLoss: {faultdisk.Nothing, faultdisk.Names, faultdisk.HalfData, faultdisk.All},
			faultdisk.Fail:      {faultdisk.All}, faultdisk.NoSpace: {faultdisk.All}, faultdisk.Short: {faultdisk.All},
		} {
			for _, s := range survive {
				steps := 0
				for n := 1; ; n++ {
					if crashAt(t, name, c.bad, c.ends, n, fault, s) {
						break
					}
					steps++
				}
				t.Logf("%s, fault %d, survivor %d: %d steps", name, fault, s, steps)
			}
		}
	}
}

// crashAt runs an update with a fault at call n; true if there was no such call.
func crashAt(t *testing.T, name string, bad bool, ends string, n int, fault faultdisk.Fault, survive faultdisk.Survive) (over bool) {
	t.Helper()
	d := faultdisk.New("/opt/cis490")
	r := newHarness(t, d, "/opt/cis490")
	if bad {
		r.units = func(v string) []update.Daemon {
			return []update.Daemon{{Name: "ship", Active: v == "v1", Why: "crashed"}}
		}
	}
	r.publish("v2", 2)
	sound := func(when string) {
		t.Helper()
		if c, g := r.runs("current"), r.runs("good"); (c != "v1" && c != "v2") || (g != "v1" && g != "v2") {
			t.Fatalf("%s, call %d, fault %d, survivor %d, %s: current runs %q, good %q\n%s", name, n, fault, survive, when, c, g, r.log.String())
		}
	}
	d.Arm(n, fault)
	var failed error
	for range 4 {
		r.now = r.now.Add(7 * time.Minute)
		if _, err := r.try(); err != nil {
			failed = err
			break
		}
	}
	if d.Calls() < n {
		d.Reboot(faultdisk.All)
		r.want(name+" without a fault", ends, ends)
		return true
	}
	if fault == faultdisk.PowerLoss && !errors.Is(failed, faultdisk.ErrPowerLost) && failed != nil {
		t.Fatalf("%s, call %d: %v", name, n, failed)
	}
	d.Reboot(survive)
	sound("after the reboot")
	var last update.Result
	for range 6 {
		r.now = r.now.Add(7 * time.Hour) // past the pause of a failed fetch
		var err error
		if last, err = r.try(); err != nil {
			t.Fatalf("%s, call %d, fault %d, survivor %d: run after the reboot: %v\n%s", name, n, fault, survive, err, r.log.String())
		}
		sound("later")
	}
	if c, g := r.runs("current"), r.runs("good"); c != ends || g != ends {
		t.Fatalf("%s, call %d, fault %d, survivor %d: in the end current is %s, good %s\n%s", name, n, fault, survive, c, g, r.log.String())
	}
	want := "nobody"
	if bad {
		want = "release: ship does not run: crashed"
	}
	if got := blamed(last); got != want {
		t.Errorf("%s, call %d, fault %d, survivor %d: blamed %q, want %q", name, n, fault, survive, got, want)
	}
	return false
}
