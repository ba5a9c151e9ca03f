package update_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/install/update"
	"cis490/internal/disk/sickdisk"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// blamed returns what is reported as the cause if a release does not run here.
func blamed(res update.Result) string {
	st := res.Status
	switch {
	case len(st.RolledBack) > 0:
		return "release: " + st.RolledBack[len(st.RolledBack)-1].Why
	case strings.Contains(st.Refused, "waits until this machine works again"):
		return "machine: " + st.Refused
	case st.Refused != "":
		return "offer: " + st.Refused
	}
	return "nobody"
}

// killed ends a run in the middle, as SIGKILL or a power cut does.
type killed struct{}

// survives performs a run, and reports whether it finished.
func (r *harness) survives() (res update.Result, err error, alive bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(killed); !ok {
				panic(p)
			}
		}
	}()
	res, err = r.try()
	return res, err, true
}

// trials are states of a machine and a release, with what is to blame.
var trials = map[string]struct {
	spoil  func(*harness)
	blamed string
	runs   string // in the end
}{
	"good": {func(*harness) {}, "nobody", "v2"},
	"its daemon does not run": {func(r *harness) {
		r.units = func(v string) []update.Daemon {
			return []update.Daemon{{Name: "ship", Active: v != "v2", Why: "crashed"}}
		}
	}, "release: ship does not run: crashed", "v1"},
	"its install fails": {
		func(r *harness) { r.converge = failsFor("v2", errors.New("cut off")) },
		"release: its install failed: cut off", "v1",
	},
	"it does not run here": {func(r *harness) {
		r.at = func(step string) {
			r.selfTest = nil
			if step == "self-test of v2" {
				r.selfTest = func() error { return errors.New("illegal instruction") }
			}
		}
	}, "release: it does not run here: illegal instruction", "v1"},
	"each install fails": {func(r *harness) {
		r.converge = func(string) error { return errors.New("data folder is a symlink") }
	}, "machine: ", "v1"},
	"nothing new runs here": {func(r *harness) { r.selfTest = func() error { return errors.New("permission denied") } }, "machine: ", "v1"},
}

// TestTrial_KilledAtEachStep: if the process is killed in any step of a trial, the trial
// continues later with the same verdict.
func TestTrial_KilledAtEachStep(t *testing.T) {
	for name, c := range trials {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				r := onDisk(t)
				c.spoil(r)
				spoiled, count, at := r.at, 0, ""
				r.at = func(step string) {
					if spoiled != nil {
						spoiled(step)
					}
					if count++; count == n {
						at = step
						panic(killed{})
					}
				}
				r.publish("v2", 2)
				var last update.Result
				for range 8 {
					r.now = r.now.Add(11 * time.Minute)
					res, err, alive := r.survives()
					if alive && err == nil {
						last = res
					}
				}
				if got := blamed(last); !strings.HasPrefix(got, c.blamed) {
					t.Errorf("killed at step %d, %s: blamed %q, want %q", n, at, got, c.blamed)
				}
				if runs, good := r.runs("current"), r.runs("good"); runs != c.runs || good != c.runs {
					t.Errorf("killed at step %d, %s: runs %s, good %s, want %s\n%s", n, at, runs, good, c.runs, r.log.String())
				}
				if at == "" {
					t.Logf("%d steps", count)
					return
				}
			}
		})
	}
}

// TestTrial_KilledAgainAndAgain: a release that crashes the machine in each attempt is
// blamed, unless the previous version does so too, or nothing of the release ran.
func TestTrial_KilledAgainAndAgain(t *testing.T) {
	for step, want := range map[string]string{
		"look": "nobody", "fetch": "nobody", "write": "nobody", "self-test of v2": "nobody",
		"install of v1": "nobody", "doctor of v1": "nobody", "services of v1": "nobody",
		"install of v2":  "release: it was applied 3 times and never finished",
		"services of v2": "nobody", // this process is the previous version: the release did not crash
		"doctor of v2":   "nobody",
	} {
		t.Run(step, func(t *testing.T) {
			r := onDisk(t)
			deaths := 0
			r.at = func(s string) {
				if s == step && deaths < 6 {
					deaths++
					panic(killed{})
				}
			}
			r.publish("v2", 2)
			var last update.Result
			for range 16 {
				r.now = r.now.Add(11 * time.Minute)
				if res, err, alive := r.survives(); alive && err == nil {
					last = res
				}
			}
			if got := blamed(last); !strings.HasPrefix(got, want) {
				t.Errorf("%d deaths: blamed %q, want %q", deaths, got, want)
			}
			end := "v2"
			if want != "nobody" {
				end = "v1"
			}
			r.want("in the end", end, end)
		})
	}
}

// TestTrial_EachStepFails: a step that fails for a reason of the disk, the network or the
// service manager is reported with that reason, blames no release, and is repeated.
func TestTrial_EachStepFails(t *testing.T) {
	on := func(op, part string, err error) func(*harness, *sickdisk.Disk) {
		return func(_ *harness, d *sickdisk.Disk) {
			d.Fail(func(o, path string, _ int64) error {
				if o == op && strings.Contains(path, part) {
					return err
				}
				return nil
			})
		}
	}
	for name, c := range map[string]struct {
		fail    func(*harness, *sickdisk.Disk)
		reports string
	}{
		"the offer cannot be fetched":    {func(r *harness, _ *sickdisk.Disk) { r.source = unreachable{} }, "no route to host"},
		"the binary cannot be fetched":   {func(r *harness, _ *sickdisk.Disk) { clear(r.blobs) }, "no such blob"},
		"no room for the binary":         {on("write", "/fetch/", unix.ENOSPC), "no space left"},
		"the binary is not made durable": {on("fsync", "/fetch/", unix.EIO), "input/output error"},
		"no folder for the version":      {on("mkdir", "/versions/v2", unix.ENOSPC), "no space left"},
		"the intent is not durable":      {on("create", "/state/autoupdate.json", unix.EIO), "input/output error"},
		"no room for the intent":         {on("write", "/state/autoupdate.json", unix.ENOSPC), "no space left"},
		"current is not swapped":         {on("rename", "/current", unix.EIO), "input/output error"},
		"the failures are not forgotten": {on("syncdir", "/state/ended", unix.EIO), "input/output error"},
		"it is not published":            {on("create", "/autoupdate.json", unix.EACCES), "permission denied"},
		"services cannot be asked":       {func(r *harness, _ *sickdisk.Disk) { r.unitsErr = errors.New("no bus") }, "no bus"},
		"good is not swapped":            {on("rename", "/good", unix.EIO), "input/output error"},
		"the disk is read-only":          {on("create", "/", unix.EROFS), "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &sickdisk.Disk{}
			r := newHarness(t, d, t.TempDir())
			r.publish("v2", 2)
			source := r.source
			c.fail(r, d)
			var reports []string
			for range 4 {
				r.now = r.now.Add(11 * time.Minute)
				res, err := r.try()
				reports = append(reports, fmt.Sprint(err, res.Note, " ", blamedOr(res)))
			}
			if all := strings.Join(reports, "\n"); !strings.Contains(all, c.reports) || strings.Contains(all, "release: ") {
				t.Errorf("reports:\n%s\nwant %q", all, c.reports)
			}
			d.Fail(nil)
			r.unitsErr, r.source = nil, source
			r.publish("v2", 2)
			var last update.Result
			for range 4 {
				r.now = r.now.Add(7 * time.Hour) // past the pause of a failed fetch
				res, err := r.try()
				if err != nil {
					t.Fatalf("when it works again: %v", err)
				}
				last = res
			}
			if got := blamed(last); got != "nobody" {
				t.Errorf("blamed %q", got)
			}
			r.want("in the end", "v2", "v2")
		})
	}
}

// unreachable is a source that cannot be reached.
type unreachable struct{}

var errRoute = errors.New("no route to host")

func (unreachable) Look(context.Context, string) (wire.Offer, string, error) {
	return wire.Offer{}, "", errRoute
}

func (unreachable) Blob(context.Context, ident.Digest, int64, bool) (update.Content, error) {
	return update.Content{}, errRoute
}

func blamedOr(res update.Result) string {
	if res.Status == nil {
		return "nothing"
	}
	return blamed(res)
}
