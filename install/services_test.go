package install_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/install"
	"cis490/internal/disk"
	"cis490/internal/fault"
)

// TestServices_RestartsExactlyWhatChanged: install restarts the services of changed files
// itself, and no others.
func TestServices_RestartsExactlyWhatChanged(t *testing.T) {
	const shipper, recorder = "cis490-shipper.service", "cis490-orchestrator.service"
	for name, c := range map[string]struct {
		change func(r *harness) error
		want   []string
	}{
		"nothing": {func(*harness) error { return nil }, nil},
		"a unit was edited": {func(r *harness) error {
			return replace(r.path("etc/systemd/system/"+shipper), "[Service]\n")
		}, []string{"daemon-reload", "restart " + shipper}},
		"a unit was written, then the install was cut off": {func(r *harness) error {
			r.manager.unit(shipper).NeedReload = true
			return os.Chtimes(r.path("etc/systemd/system/"+shipper), time.Time{}, time.Now())
		}, []string{"daemon-reload", "restart " + shipper}},
		"a drop-in was added by the site": {func(r *harness) error {
			r.manager.unit(shipper).NeedReload = true
			return nil
		}, []string{"daemon-reload"}},
		"a timer was edited": {func(r *harness) error {
			return replace(r.path("etc/systemd/system/cis490-cert-fetch.timer"), "[Timer]\n")
		}, []string{"daemon-reload"}},
		"the config was edited": {func(r *harness) error {
			return os.Chtimes(r.path("etc/cis490/lab-host.toml"), time.Time{}, time.Now())
		}, []string{"restart " + shipper, "restart " + recorder}},
		"the config has a time in the future": {func(r *harness) error {
			return os.Chtimes(r.path("etc/cis490/lab-host.toml"), time.Time{}, time.Now().Add(time.Hour))
		}, nil},
		"another binary runs": {func(r *harness) error {
			fi, err := os.Stat(r.binary)
			r.manager.unit(recorder).Program = fi
			return err
		}, []string{"restart " + recorder}},
		"a new version": {func(r *harness) error {
			r.binary, r.version = r.carried("second build"), "v2.0.0"
			return nil
		}, []string{"restart " + shipper, "restart " + recorder}},
		"the same version, built again": {func(r *harness) error {
			r.binary = r.carried("second build")
			return nil
		}, []string{"restart " + shipper, "restart " + recorder}},
		"a service is down": {func(r *harness) error {
			r.manager.unit(shipper).Active = false
			return nil
		}, []string{"start " + shipper}},
		"a timer is off": {func(r *harness) error {
			*r.manager.unit("cis490-doctor-check.timer") = install.UnitState{Name: "cis490-doctor-check.timer"}
			return nil
		}, []string{"enable --quiet cis490-doctor-check.timer", "start cis490-doctor-check.timer"}},
		"a unit is masked": {func(r *harness) error {
			*r.manager.unit(shipper) = install.UnitState{Name: shipper, Masked: true}
			return relink(r.path("etc/systemd/system/"+shipper), "/dev/null")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHarness(t)
			r.enrolls()
			r.apply(r.options(install.LabHost))
			for _, u := range r.manager.units {
				if !u.Started.IsZero() {
					u.Started = time.Now().Add(time.Second) // file times have a coarse clock too
				}
			}
			old := time.Now().Add(-time.Minute)
			for _, f := range []string{"etc/cis490/lab-host.toml", "etc/systemd/system/" + shipper, "etc/systemd/system/" + recorder} {
				if err := os.Chtimes(r.path(f), time.Time{}, old); err != nil {
					t.Fatal(err)
				}
			}
			for _, u := range r.manager.units {
				if !u.Started.IsZero() {
					u.Started = old.Add(time.Second)
				}
			}
			if err := c.change(r); err != nil {
				t.Fatal(err)
			}
			r.manager.calls = nil
			_, n := r.drift(r.options(install.LabHost))
			if (n > 0) != (len(c.want) > 0) || len(r.manager.calls) > 0 {
				t.Errorf("--check: %d differ, calls %v: %s", n, r.manager.calls, r.out.String())
			}
			out, calls := r.apply(r.options(install.LabHost))
			if diff := cmp.Diff(c.want, calls); diff != "" {
				t.Errorf("%s\n%s", diff, out)
			}
		})
	}
}

// TestServices_OneThatFailsDoesNotKeepTheRestDown: and the note says how to inspect it.
func TestServices_OneThatFailsDoesNotKeepTheRestDown(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.manager.fail = "start cis490-shipper.service"
	p, err := install.New(r.options(install.LabHost))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "cis490-shipper") {
		t.Errorf("error: %v", err)
	}
	if !r.manager.unit("cis490-autoupdate.timer").Active {
		t.Error("the timers were not started")
	}
}

// TestServices_UpdateLeavesTheVerdict: a daemon that does not start is left to the judge of
// the trial. A service that still runs as before, and a timer, are failures of the install.
func TestServices_UpdateLeavesTheVerdict(t *testing.T) {
	const recorder, timer = "cis490-orchestrator.service", "cis490-doctor-check.timer"
	for name, c := range map[string]struct {
		fail   string
		before func(*harness)
		fails  bool
	}{
		"was down":         {"start " + recorder, func(r *harness) { r.manager.unit(recorder).Active = false }, false},
		"goes down":        {"start " + recorder, func(r *harness) { r.manager.ends = recorder }, false},
		"runs the old one": {"start " + recorder, func(*harness) {}, true},
		"timer":            {"start " + timer, func(r *harness) { r.manager.unit(timer).Active = false }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHarness(t)
			r.enrolls()
			r.apply(r.options(install.LabHost))
			r.binary, r.version = r.carried("second build"), "v2.0.0"
			r.manager.fail = c.fail
			c.before(r)
			o := r.options(install.LabHost)
			o.Token, o.Update = "", true
			p, err := install.New(o)
			if err != nil {
				t.Fatal(err)
			}
			r.out.Reset()
			if err := p.Apply(t.Context()); (err != nil) != c.fails {
				t.Errorf("%v\n%s", err, r.out.String())
			}
			unit := strings.TrimPrefix(c.fail, "start ")
			if said := r.out.String(); !c.fails &&
				(!strings.Contains(said, "note     services: "+c.fail) || strings.Contains(said, "changed  services: "+unit)) {
				t.Errorf("it says\n%s", said)
			}
		})
	}
}

func TestServices_NoStart(t *testing.T) {
	r := newHarness(t)
	o := r.options(install.LabHost)
	o.NoStart = true
	_, calls := r.apply(o)
	for _, c := range calls {
		if strings.HasPrefix(c, "start") || strings.HasPrefix(c, "restart") {
			t.Errorf("asked for %s", c)
		}
	}
	if !r.manager.unit("cis490-shipper.service").Enabled {
		t.Error("nothing was enabled")
	}
}

// TestServices_TheOtherRoleGetsTheNewBinaryToo: both roles run the same file.
func TestServices_TheOtherRoleGetsTheNewBinaryToo(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.Receiver))
	r.apply(r.options(install.LabHost))
	if out, calls := r.apply(r.options(install.Receiver)); len(calls) > 0 {
		t.Fatalf("%v\n%s", calls, out)
	} else if _, calls := r.apply(r.options(install.LabHost)); len(calls) > 0 {
		t.Fatalf("the roles undo each other's work: %v\n%s", calls, out)
	}
	r.binary, r.version = r.carried("second build"), "v2.0.0"
	_, calls := r.apply(r.options(install.LabHost))
	want := []string{
		"restart cis490-shipper.service", "restart cis490-orchestrator.service",
		"restart cis490-bootstrap.service", "restart cis490-receiver.service",
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

func TestUnits_OfAnEarlierVersionGo(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	const dir = "etc/systemd/system/"
	ours := "# Written by 'cis490 install', long ago\n[Service]\n"
	r.write(dir+"cis490-watchdog.service", ours)
	r.write(dir+"cis490-backup-of-the-site.service", "[Service]\n")
	r.write(dir+"cis490-shipper.service.d/site.conf", "[Service]\nNice=1\n")
	r.write(dir+"other.service", ours)
	_, calls := r.apply(r.options(install.LabHost))
	if r.exists(dir+"cis490-watchdog.service") || calls[0] != "disable --now cis490-watchdog.service" {
		t.Errorf("it is still there: %v", calls)
	}
	for _, kept := range []string{"cis490-backup-of-the-site.service", "cis490-shipper.service.d/site.conf", "other.service"} {
		if !r.exists(dir + kept) {
			t.Errorf("%s was removed", kept)
		}
	}
}

// TestSystemd_ReadsWhatSystemctlPrints runs a systemctl that prints recorded output of the
// real one.
func TestSystemd_ReadsWhatSystemctlPrints(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
echo "$@" >> ` + dir + `/calls
test "$1" = show || exit 0
cat <<EOF
Id=c.service
ActiveState=inactive

Id=e.service
ActiveState=inactive

Id=f.service
ActiveState=failed

MainPID=$PPID
Id=a.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=yes

MainPID=0
Id=b.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
UnitFileState=disabled
NeedDaemonReload=no

MainPID=0
Id=c.timer
LoadState=masked
ActiveState=inactive
SubState=dead
UnitFileState=masked
NeedDaemonReload=no

MainPID=0
Id=d.service
LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
NeedDaemonReload=no

MainPID=0
Id=e.timer
LoadState=loaded
ActiveState=active
SubState=elapsed
UnitFileState=enabled
NeedDaemonReload=no

MainPID=0
Id=f.timer
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no
EOF
`
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	m := install.Systemd()
	states, err := m.States(t.Context(), "a.service", "b.service", "c.timer", "d.service", "e.timer", "f.timer")
	if err != nil {
		t.Fatal(err)
	}
	// The main process is this test: its age and program are known.
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(states[0].Started); age < 0 || age > 10*time.Minute || !disk.SameFile(states[0].Program, self) {
		t.Errorf("main process: started %v, program %v", states[0].Started, states[0].Program)
	}
	states[0].Started, states[0].Program = time.Time{}, nil
	want := []install.UnitState{
		{Name: "a.service", Known: true, Enabled: true, Active: true, NeedReload: true},
		{Name: "b.service", Known: true},
		{Name: "c.timer", Known: true, Masked: true},
		{Name: "d.service"},
		{Name: "e.timer", Known: true, Enabled: true, Active: true, Stuck: true},
		{Name: "f.timer", Known: true, Enabled: true, Active: true, Stuck: true},
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}

	err = errors.Join(m.Start(t.Context(), "a.service"), m.Restart(t.Context(), "a.service"), m.Stop(t.Context(), "c.timer"),
		m.Systemctl(t.Context(), "daemon-reload"))
	if err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	_, asked, _ := strings.Cut(string(calls), "\n")
	if diff := cmp.Diff("start a.service\nrestart a.service\nstop c.timer\ndaemon-reload\n", asked); diff != "" {
		t.Error(diff)
	}

	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\necho no such thing >&2\nexit 5\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"service": m.Start(t.Context(), "a.service"), "timer": m.Start(t.Context(), "c.timer")} {
		if err == nil || !strings.Contains(err.Error(), "exit status 5") || !strings.Contains(fault.FixOf(err), "journalctl -u") {
			t.Errorf("start of a %s that fails: %v, fix %q", name, err, fault.FixOf(err))
		}
	}
}
