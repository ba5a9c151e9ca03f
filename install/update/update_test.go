package update_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/install/update"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/manifest"
)

func onDisk(t *testing.T) *harness { return newHarness(t, disk.OS{}, t.TempDir()) }

// TestRun_GoodRelease: fetched, tried, proven; the old version is pruned once two newer
// ones exist.
func TestRun_GoodRelease(t *testing.T) {
	r := onDisk(t)
	if res := r.run(); res.Did != update.Repaired || r.converged[0] != "v1" {
		t.Errorf("nothing offered: %+v", res)
	}
	r.changes = []string{"services: started x.service, which was not running"}
	if res := r.run(); res.Did != update.Mended || !slices.Equal(res.Changes, r.changes) {
		t.Errorf("a repair: %+v", res)
	}
	r.changes = nil
	for i, v := range []string{"v2", "v3"} {
		r.publish(v, uint64(i+2), func(m *manifest.Manifest) {
			b := r.blob("schema = 1 # " + v)
			m.Experiment = &b
		})
		if res := r.run(); res.Did != update.Began || res.Status.Trial == nil || res.Status.Trial.Phase != "observing" {
			t.Fatalf("%s: %+v\n%s", v, res, r.log.String())
		}
		before := []string{"v1", "v2"}[i]
		r.want(v+" on trial", v, before)
		if res := r.run(); res.Did != update.Observing {
			t.Errorf("%s after 5 minutes: %+v", v, res)
		}
		if res := r.run(); res.Did != update.Proved || res.Status.Good.Version != v || res.Status.Good.Seq != uint64(i+2) {
			t.Errorf("%s after 11 minutes: %+v\n%s", v, res, r.log.String())
		}
		r.want(v+" proven", v, v)
		if b, err := disk.ReadFile(disk.OS{}, r.path("versions", v, "experiment.toml"), 100); err != nil || !strings.Contains(string(b), v) {
			t.Errorf("%s: experiment %q, %v", v, b, err)
		}
		if res := r.run(); res.Did != update.Repaired {
			t.Errorf("%s, later: %+v", v, res)
		}
		if r.reports != i+1 {
			t.Errorf("%s: %d reports", v, r.reports)
		}
	}
	if got := r.versions(); got != "v3" {
		t.Errorf("versions: %s", got)
	}
	if left := r.leftovers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestRun_BadRelease: however a version fails, the old one comes back with its
// units, its logs are kept, the failure is reported, and it is not tried again.
func TestRun_BadRelease(t *testing.T) {
	down := func(why string) func(string) []update.Daemon {
		return func(v string) []update.Daemon {
			return []update.Daemon{{Name: "ship", Active: v == "v1", Why: why}}
		}
	}
	for name, c := range map[string]struct {
		spoil func(*harness)
		runs  int // until it is rolled back, the first included
		why   string
	}{
		"exits at start":       {func(r *harness) { r.units = down("exit-code, exit status 1") }, 1, "does not run"},
		"watchdog":             {func(r *harness) { r.units = down("watchdog") }, 1, "watchdog"},
		"failing install step": {func(r *harness) { r.converge = failsFor("v2", errors.New("units: cut off")) }, 1, "its install failed"},
		"crashes late": {func(r *harness) {
			began := r.now
			r.units = func(v string) []update.Daemon {
				d := update.Daemon{Name: "ship", Active: true}
				if v == "v2" && r.now.Sub(began) > 9*time.Minute {
					d.Restarts = 1
				}
				return []update.Daemon{d}
			}
		}, 2, "had to be restarted"},
		"fails its checks": {func(r *harness) {
			r.findings = func(v string) update.Findings {
				if v == "v2" {
					return update.Findings{Failing: []string{"disk.reserve"}}
				}
				return update.Findings{}
			}
		}, 3, "disk.reserve"},
		"doctor crashes": {func(r *harness) {
			r.findings = func(v string) update.Findings {
				if v == "v2" {
					return update.Findings{Err: errors.New("exit status 2")}
				}
				return update.Findings{}
			}
		}, 3, "doctor"},
		"cannot ship": {func(r *harness) {
			oldest := r.now
			r.findings = func(string) update.Findings {
				return update.Findings{Reaches: true, Waiting: 3, Oldest: oldest}
			}
		}, 5, "none was accepted"},
		"stops recording": {func(r *harness) {
			shipped := r.now
			r.findings = func(string) update.Findings { return update.Findings{Reaches: true, LastShipped: shipped} }
		}, 13, "nothing was recorded"},
		"removes its own symlink": {func(r *harness) {
			r.converge = func(v string) error {
				if v == "v2" {
					return r.fs.Remove(r.path("current"))
				}
				return nil
			}
		}, 1, "does not point to it"},
	} {
		t.Run(name, func(t *testing.T) {
			r := onDisk(t)
			c.spoil(r)
			r.publish("v2", 2)
			var res update.Result
			for i := 1; i <= c.runs; i++ {
				if res = r.run(); (res.Did == update.RolledBack) != (i == c.runs) {
					t.Fatalf("run %d: %+v\n%s", i, res, r.log.String())
				}
			}
			r.want("after", "v1", "v1")
			if last := r.converged[len(r.converged)-1]; last != "v1" {
				t.Errorf("the last install was %s's", last)
			}
			if !strings.Contains(res.Note, c.why) || len(res.Status.RolledBack) != 1 || res.Status.RolledBack[0].Seq != 2 ||
				res.Status.Trial != nil {
				t.Errorf("%+v, want …%s…", res, c.why)
			}
			logs, err := r.fs.ReadDir(r.path("state", "rolled-back"))
			if err != nil || len(logs) != 1 {
				t.Errorf("logs: %v %v", logs, err)
			}
			if r.reports != 1 {
				t.Errorf("%d reports", r.reports)
			}
			if got := r.versions(); got != "v1" {
				t.Errorf("versions: %s", got)
			}
			tests := r.tests
			if res := r.run(); res.Did != update.Repaired || r.tests != tests {
				t.Errorf("tried again: %+v", res)
			}
			// The same binary under a higher seq is the same failure; a fixed one is not.
			r.publish("v2", 3)
			if res := r.run(); res.Did != update.Repaired || !strings.Contains(res.Note, "failed on this machine") {
				t.Errorf("replay: %+v", res)
			}
		})
	}
}

func failsFor(v string, err error) func(string) error {
	return func(is string) error {
		if is == v {
			return err
		}
		return nil
	}
}

// TestJudge_ReceiverDown: while the receiver cannot be reached the trial has no
// verdict, however long that lasts; when it is back, the trial ends well.
func TestJudge_ReceiverDown(t *testing.T) {
	r := onDisk(t)
	f := update.Findings{Waiting: 9, Oldest: r.now}
	r.findings = func(string) update.Findings { return f }
	r.publish("v2", 2)
	r.run()
	for range 300 { // a day
		if res := r.run(); res.Did != update.Observing {
			t.Fatalf("%+v", res)
		}
	}
	f.Reaches = true
	for range 3 { // the shipper has not reconnected yet
		if res := r.run(); res.Did != update.Observing || res.Note != "an episode to be accepted" {
			t.Fatalf("receiver is back: %+v", res)
		}
	}
	f.LastShipped = r.now
	if res := r.run(); res.Did != update.Proved {
		t.Errorf("an episode is accepted: %+v", res)
	}
	r.want("in the end", "v2", "v2")
}

// TestJudge_ReceiverBack: a version that ships nothing to a receiver that is back has
// failed.
func TestJudge_ReceiverBack(t *testing.T) {
	r := onDisk(t)
	f := update.Findings{Waiting: 9, Oldest: r.now}
	r.findings = func(string) update.Findings { return f }
	r.publish("v2", 2)
	for range 20 {
		r.run()
	}
	f.Reaches = true
	for i := 1; ; i++ {
		if res := r.run(); res.Did == update.RolledBack {
			if i < 4 || i > 5 {
				t.Errorf("rolled back %d looks after the receiver is back", i)
			}
			break
		}
		if i > 10 {
			t.Fatal("it is not rolled back")
		}
	}
}

// TestJudge_WhatIsNotItsFault: earlier failures and a masked unit are not blamed on the
// version.
func TestJudge_WhatIsNotItsFault(t *testing.T) {
	r := onDisk(t)
	shipped := r.now
	r.findings = func(string) update.Findings {
		return update.Findings{Failing: []string{"disk.reserve"}, Reaches: true, LastShipped: shipped} // and nothing since
	}
	r.units = func(string) []update.Daemon {
		return []update.Daemon{{Name: "ship", Active: true}, {Name: "orchestrate", Masked: true}}
	}
	r.publish("v2", 2)
	r.run()
	r.run()
	if res := r.run(); res.Did != update.Proved {
		t.Errorf("%+v", res)
	}
}

// TestJudge_Reboots: uptime is summed over boots; time off does not count, and a
// counter that starts at zero again is not a crash.
func TestJudge_Reboots(t *testing.T) {
	r := onDisk(t)
	since := r.now
	r.units = func(string) []update.Daemon { return []update.Daemon{{Name: "ship", Active: true, Since: since}} }
	r.publish("v2", 2)
	r.run()
	for boot := range 3 {
		r.now = r.now.Add(100 * time.Hour)
		r.boot, since = "boot-"+string(rune('a'+boot)), r.now.Add(3*time.Minute)
		if res := r.run(); res.Did != update.Observing {
			t.Fatalf("boot %d: %+v", boot, res)
		}
	}
	if res := r.run(); res.Did != update.Proved {
		t.Errorf("1.5 + 3×2 + 5 minutes: %+v", res)
	}
}

// TestJudge_Sleeps: time that a laptop slept during a trial does not count, so an episode
// that was not shipped by then still has time.
func TestJudge_Sleeps(t *testing.T) {
	for name, f := range map[string]update.Findings{
		"work waited":     {Reaches: true, Waiting: 1},
		"nothing is made": {Reaches: true},
	} {
		r := onDisk(t)
		f.Oldest, f.LastShipped = r.now, r.now
		r.findings = func(string) update.Findings { return f }
		r.publish("v2", 2)
		r.run()
		r.run()
		r.now = r.now.Add(8 * time.Hour)
		if res := r.run(); res.Did != update.Observing {
			t.Fatalf("%s, after a night: %+v", name, res)
		}
		f.LastShipped = r.now
		if res := r.run(); res.Did != update.Proved {
			t.Errorf("%s, and an episode is accepted: %+v", name, res)
		}
	}
}

// TestApply_BrokenConfig: a config that cannot be read does not block a release, although
// no daemon starts with it.
func TestApply_BrokenConfig(t *testing.T) {
	r := onDisk(t)
	restarted := false
	r.restart = func() error { restarted = true; return errors.New("exit status 78") }
	r.units = func(string) []update.Daemon {
		return []update.Daemon{{Name: "ship", Active: !restarted, Why: "exit-code, exit status 78"}}
	}
	r.converge = func(string) error { return fault.Exit(errors.New("lab-host.toml:1:1: broken"), fault.Config) }
	r.findings = func(string) update.Findings {
		if restarted {
			return update.Findings{Failing: []string{"config.valid", "units.active"}}
		}
		return update.Findings{Failing: []string{"config.valid"}}
	}
	r.publish("v2", 2)
	for range 3 {
		r.run()
	}
	r.want("in the end", "v2", "v2")
}

// TestJudge_WhatDidNotRunBefore: a daemon that did not run with the previous version is not
// the new one's fault; one that ran is.
func TestJudge_WhatDidNotRunBefore(t *testing.T) {
	r := onDisk(t)
	restarts := uint32(0)
	r.units = func(string) []update.Daemon {
		restarts++ // it crashes all the time
		return []update.Daemon{{Name: "ship", Active: true}, {Name: "orchestrate", Restarts: restarts, Why: "exit-code, exit status 1"}}
	}
	r.publish("v2", 2)
	for range 3 {
		r.run()
	}
	r.want("in the end", "v2", "v2")
}

// TestJudge_NoExperiment: if the experiment cannot be read, a recorder that the update
// restarted, and that ended for that reason, is not the version's fault; any other end is.
func TestJudge_NoExperiment(t *testing.T) {
	for daemon, runs := range map[string]string{"cis490-orchestrator.service": "v2", "cis490-shipper.service": "v1"} {
		r := onDisk(t)
		r.units = func(v string) []update.Daemon {
			return []update.Daemon{{Name: daemon, Active: v == "v1", Why: "exit-code, exit status 78"}}
		}
		r.findings = func(v string) update.Findings {
			if v == "v1" {
				return update.Findings{Failing: []string{"experiment.valid"}}
			}
			return update.Findings{Failing: []string{"experiment.valid", "units.active"}}
		}
		r.publish("v2", 2)
		for range 3 {
			r.run()
		}
		r.want(daemon, runs, runs)
	}
}

// TestRollBack_InstallFails: a rollback also ends if the good version's own install fails:
// the next release is applied, which may repair it.
func TestRollBack_InstallFails(t *testing.T) {
	r := onDisk(t)
	broken := errors.New("useradd: not found")
	spoilt := false // by v2: before, v1's install is well
	r.converge = func(v string) error {
		spoilt = spoilt || v == "v2"
		if v == "v3" || !spoilt {
			return nil
		}
		return broken
	}
	r.publish("v2", 2)
	ended := false
	for range 3 {
		r.now = r.now.Add(5 * time.Minute)
		res, err := r.try()
		if ended = err == nil && res.Did == update.RolledBack; !ended && !errors.Is(err, broken) {
			t.Fatalf("%+v %v", res, err)
		}
		r.want("going back", "v1", "v1")
	}
	if !ended {
		t.Errorf("it does not end:\n%s", r.log.String())
	}
	r.publish("v3", 3)
	for range 3 {
		r.run()
	}
	r.want("the release that mends it", "v3", "v3")
}

// TestSettle_Hand: a version installed by hand ends a trial, and only a later release
// replaces it.
func TestSettle_Hand(t *testing.T) {
	r := onDisk(t)
	r.publish("v2", 2)
	r.run()
	r.place("hand", "hand amd64")
	for _, l := range []string{"current", "good"} {
		must(t, disk.Relink(r.fs, "versions/hand", r.path(l)))
	}
	for range 3 {
		if res := r.run(); res.Did != update.Repaired || res.Status.Good.Version != "hand" || res.Status.Trial != nil {
			t.Fatalf("%+v\n%s", res, r.log.String())
		}
	}
	r.want("brought by hand", "hand", "hand")
	r.publish("v3", 3)
	r.run()
	r.want("a later release", "v3", "hand")
}

// TestSettle_HandGated: a version installed by hand whose episodes the receiver refuses is
// replaced by the offered release, also if the gate changes later.
func TestSettle_HandGated(t *testing.T) {
	r := onDisk(t)
	r.publish("v2", 2)
	for range 4 {
		r.run()
	}
	r.want("the release", "v2", "v2")
	r.place("hand", "hand amd64")
	for _, l := range []string{"current", "good"} {
		must(t, disk.Relink(r.fs, "versions/hand", r.path(l)))
	}
	for range 3 {
		r.run()
	}
	r.want("while the gate takes it", "hand", "hand")
	r.gated = true
	r.run()
	r.want("refused by the gate", "v2", "hand")
}

// TestSettle_LostState: a running version without a verdict is on trial.
func TestSettle_LostState(t *testing.T) {
	r := onDisk(t)
	r.publish("v2", 2)
	r.run()
	must(t, disk.ReplaceBytes(r.fs, r.path("state", "autoupdate.json"), 0o600, []byte("{half")))
	if res := r.run(); res.Did != update.Observing {
		t.Fatalf("%+v\n%s", res, r.log.String())
	}
	r.run()
	if res := r.run(); res.Did != update.Proved && res.Did != update.Repaired {
		t.Errorf("%+v", res)
	}
	r.want("in the end", "v2", "v2")
}

// TestRepair_CurrentGone: without current, the good version is restored.
func TestRepair_CurrentGone(t *testing.T) {
	r := onDisk(t)
	must(t, r.fs.Remove(r.path("current")))
	r.run()
	r.want("after", "v1", "v1")
}
