package update_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/install/update"
	"cis490/internal/disk"
)

// fails makes a daemon's unit record a failure, as ExecStopPost does.
func (r *harness) fails(unit string) {
	r.t.Helper()
	to, err := disk.Readlink(r.fs, r.path("current"))
	must(r.t, err)
	must(r.t, disk.ReplaceBytes(r.fs, r.path("state", "ended", unit), 0o600, []byte(to+"\ncore-dump, exit status ABRT\n")))
}

// TestBlame_Machine: what also fails with the previous version is the machine's fault:
// the report says so and has a command, the release is not blamed, it is tried at most once
// while the fault lasts, and applied when it is over.
func TestBlame_Machine(t *testing.T) {
	ill := true
	for name, spoil := range map[string]func(r *harness){
		"both installs fail": func(r *harness) {
			r.converge = func(string) error {
				if ill {
					return errors.New("data folder is a link")
				}
				return nil
			}
		},
		"nothing can be run from the disk": func(r *harness) {
			r.selfTest = func() error {
				if ill {
					return errors.New("permission denied")
				}
				return nil
			}
		},
		"the disk was full": func(r *harness) {
			r.findings = func(string) update.Findings {
				if ill {
					return update.Findings{Failing: []string{"disk.reserve"}}
				}
				return update.Findings{}
			}
			r.converge = func(v string) error {
				if v == "v2" && ill {
					return errors.New("write unit: no space left on device")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := onDisk(t)
			ill = true
			spoil(r)
			r.publish("v2", 2)
			for range 4 {
				r.now = r.now.Add(5 * time.Minute)
				res, err := r.try()
				if err != nil {
					t.Fatal(err)
				}
				if len(res.Status.RolledBack) != 0 || !strings.Contains(res.Status.Refused, "v1 fails on it too") ||
					!strings.HasSuffix(res.Status.Refused, "sudo cis490 autoupdate") {
					t.Fatalf("%+v %+v", res, res.Status)
				}
				r.want("while the machine is broken", "v1", "v1")
			}
			if ill = false; r.run().Did != update.Began {
				t.Errorf("not tried once the machine was mended:\n%s", r.log.String())
			}
		})
	}
}

// TestBlame_Release: if the previous version does not fail, the release is at fault.
func TestBlame_Release(t *testing.T) {
	r := onDisk(t)
	r.converge = failsFor("v2", errors.New("write unit: no space left on device"))
	r.publish("v2", 2)
	if res := r.run(); res.Did != update.RolledBack || len(res.Status.RolledBack) != 1 {
		t.Errorf("%+v", res)
	}
}

// TestApply_NoBaseline: if the state of the services cannot be read, nothing is tried that
// could be blamed for it.
func TestApply_NoBaseline(t *testing.T) {
	r := onDisk(t)
	r.unitsErr = errors.New("no bus")
	r.publish("v2", 2)
	if res := r.run(); res.Did != update.Nothing || !strings.Contains(res.Note, "cannot read the state of services") {
		t.Errorf("%+v", res)
	}
	r.want("without a baseline", "v1", "v1")
	r.unitsErr = nil
	if res := r.run(); res.Did != update.Began {
		t.Errorf("%+v", res)
	}
}

// TestApply_FailedBefore: a daemon that kept failing with the previous version is not held
// against the new one; a failure long ago is not an excuse.
func TestApply_FailedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		age  time.Duration
		want update.Did
	}{"lately": {time.Minute, update.Proved}, "long ago": {48 * time.Hour, update.RolledBack}} {
		t.Run(name, func(t *testing.T) {
			r := onDisk(t)
			r.run()
			r.fails("ship")
			r.now = time.Now().Add(c.age)
			r.publish("v2", 2)
			r.run()
			r.fails("ship")
			var res update.Result
			for range 3 {
				if res = r.run(); res.Did != update.Observing {
					break
				}
			}
			if res.Did != c.want {
				t.Errorf("%+v, want %s", res, c.want)
			}
		})
	}
}

// TestJudge_FailureIsRemembered: a daemon that failed in its trial has failed, whatever
// resets the service manager's counter before the next run.
func TestJudge_FailureIsRemembered(t *testing.T) {
	for name, forget := range map[string]func(r *harness){
		"power cut":                        func(r *harness) { r.boot = "boot-2" },
		"restart by hand, or reset-failed": func(*harness) {},
		"the state of updates is lost":     func(r *harness) { must(t, r.fs.Remove(r.path("state", "autoupdate.json"))) },
		"the machine is off for a week": func(r *harness) {
			r.boot = "boot-2"
			r.now = r.now.Add(7 * 24 * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := onDisk(t)
			r.publish("v2", 2)
			r.run()
			r.fails("ship")
			forget(r)
			if res := r.run(); res.Did != update.RolledBack || !strings.Contains(res.Note, "core-dump") {
				t.Errorf("%+v", res)
			}
			r.want("after", "v1", "v1")
		})
	}
}

// TestJudge_StoppedByInstall: a daemon that an install stopped is not a failure of the
// version that it brings, nor is a failure of another version's daemon.
func TestJudge_StoppedByInstall(t *testing.T) {
	r := onDisk(t)
	r.converge = func(v string) error {
		if v == "v2" {
			r.fails("ship")
		}
		return nil
	}
	r.publish("v2", 2)
	if res := r.run(); res.Did != update.Began {
		t.Fatalf("%+v", res)
	}
	must(t, disk.ReplaceBytes(r.fs, r.path("state", "ended", "ship"), 0o600, []byte("versions/v1\nsignal, exit status KILL\n")))
	r.run()
	if res := r.run(); res.Did != update.Proved {
		t.Errorf("%+v", res)
	}
}

// TestNew_LostState: what failed here is not tried again after the state was lost.
func TestNew_LostState(t *testing.T) {
	for name, lose := range map[string]func(r *harness) error{
		"removed": func(r *harness) error { return r.fs.Remove(r.path("state", "autoupdate.json")) },
		"destroyed": func(r *harness) error {
			return disk.ReplaceBytes(r.fs, r.path("state", "autoupdate.json"), 0o600, []byte("{"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := onDisk(t)
			r.converge = failsFor("v2", errors.New("broken"))
			r.publish("v2", 2)
			r.run()
			must(t, lose(r))
			if res := r.run(); res.Did != update.Repaired || !strings.Contains(res.Note, "failed on this machine") {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestRun_ManyBadReleases: a machine on which each release fails keeps a bounded number of
// files of them, so that an update that never ends well does not fill its disk.
func TestRun_ManyBadReleases(t *testing.T) {
	r := onDisk(t)
	r.converge = func(v string) error {
		if v == "v1" {
			return nil
		}
		return errors.New("cut off")
	}
	var after []int
	for seq := uint64(2); seq < 50; seq++ {
		r.publish(fmt.Sprintf("v%d", seq), seq)
		if res := r.run(); res.Did != update.RolledBack {
			t.Fatalf("release %d: %+v", seq, res)
		}
		files := 0
		must(t, filepath.WalkDir(r.path(), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files++
			}
			return err
		}))
		after = append(after, files)
	}
	if most := slices.Max(after); most > after[8] {
		t.Errorf("%d files after 9 releases, later up to %d", after[8], most)
	}
	r.want("in the end", "v1", "v1")
	if got := r.versions(); got != "v1" {
		t.Errorf("versions: %s", got)
	}
}
