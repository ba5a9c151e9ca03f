package install_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/install"
	"cis490/internal/fault"
	"cis490/internal/wire"
)

// enrolls makes the harness's cert-fetch work as the real one: it uses the token up.
func (r *harness) enrolls() {
	r.manager.fetch = func() error {
		r.write("etc/cis490/certs/lab-host.pem", "certificate")
		return os.Remove(r.path("etc/cis490/certs/join-token"))
	}
}

func TestApply_TwiceChangesNothing(t *testing.T) {
	for _, role := range []install.Role{install.LabHost, install.Receiver} {
		t.Run(string(role), func(t *testing.T) {
			r := newHarness(t)
			r.enrolls()
			out, calls := r.apply(r.options(role))
			if !strings.Contains(out, "changed  units: ") || len(calls) == 0 {
				t.Fatalf("the first install did nothing: %s\n%v", out, calls)
			}
			before := r.tree()
			out, calls = r.apply(r.options(role))
			if strings.Contains(out, "changed ") || !strings.Contains(out, "in sync, nothing changed") || len(calls) > 0 {
				t.Errorf("the second install: %s\n%v", out, calls)
			}
			if diff := cmp.Diff(before, r.tree()); diff != "" {
				t.Error(diff)
			}
			if out, n := r.drift(r.options(role)); n != 0 {
				t.Errorf("drift after install:\n%s", out)
			}
		})
	}
}

func TestApply_StartsWhatARoleHas(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	_, calls := r.apply(r.options(install.LabHost))
	want := []string{
		"daemon-reload",
		"enable --quiet cis490-shipper.service cis490-orchestrator.service " +
			"cis490-cert-fetch.timer cis490-doctor-check.timer cis490-autoupdate.timer",
		"start cis490-cert-fetch.service",
		"start cis490-shipper.service",
		"start cis490-orchestrator.service",
		"start cis490-cert-fetch.timer",
		"start cis490-doctor-check.timer",
		"start cis490-autoupdate.timer",
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

func TestDryRun_ChangesNothing(t *testing.T) {
	r := newHarness(t)
	p, err := install.New(r.options(install.LabHost))
	if err != nil {
		t.Fatal(err)
	}
	before := r.tree()
	if n, err := p.DryRun(t.Context()); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if diff := cmp.Diff(before, r.tree()); diff != "" || len(r.manager.calls) > 0 {
		t.Error(diff, r.manager.calls)
	}
	for _, want := range []string{
		"+host = \"lab-01\"", "+ExecStart=/usr/local/bin/cis490 ship", "$ systemctl daemon-reload",
		"$ systemctl start cis490-shipper.service",
	} {
		if !strings.Contains(r.out.String(), want) {
			t.Errorf("%q is not shown", want)
		}
	}
	if strings.Contains(r.out.String(), r.options(install.LabHost).Token) {
		t.Error("the join token is shown")
	}
}

// TestApply_GoesOnWhereItWasCutOff stops an install at every change it makes to the disk;
// the next one must reach the same state as an uninterrupted one.
func TestApply_GoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	for _, role := range []install.Role{install.LabHost, install.Receiver} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			whole := newHarness(t)
			whole.enrolls()
			whole.apply(whole.options(role))
			for n := 1; ; n++ {
				r := newHarness(t)
				r.enrolls()
				o := r.options(role)
				cut := &cutOff{after: n}
				o.FS = cut
				p, err := install.New(o)
				if err != nil {
					t.Fatal(err)
				}
				err = p.Apply(t.Context())
				if err == nil {
					if n < 20 {
						t.Fatalf("an install made %d changes", n)
					}
					return
				}
				if !errors.Is(err, errCut) {
					t.Fatalf("cut off at %d: %v", n, err)
				}
				r.apply(r.options(role))
				if diff := cmp.Diff(timeless(whole.tree()), timeless(r.tree())); diff != "" {
					t.Fatalf("cut off at %d: %s", n, diff)
				}
				if out, n := r.drift(r.options(role)); n != 0 {
					t.Fatalf("cut off at %d: %s", n, out)
				}
			}
		})
	}
}

func TestApply_OverWhatIsBroken(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	want := timeless(r.tree())
	for name, damage := range map[string]func() error{
		"dangling current":    func() error { return relink(r.path("opt/cis490/current"), "versions/none") },
		"dangling good":       func() error { return relink(r.path("opt/cis490/good"), "versions/none") },
		"half a binary":       func() error { return os.Truncate(r.path("opt/cis490/versions/v1.0.0/cis490"), 3) },
		"no binary":           func() error { return os.RemoveAll(r.path("opt/cis490/versions")) },
		"an old command":      func() error { return replace(r.path("usr/local/bin/cis490"), "#!/bin/sh\n") },
		"an empty unit":       func() error { return os.Truncate(r.path("etc/systemd/system/cis490-shipper.service"), 0) },
		"a unit elsewhere":    func() error { return relink(r.path("etc/systemd/system/cis490-shipper.service"), "/srv/unit") },
		"a folder of others":  func() error { return os.Chmod(r.path("var/lib/cis490/data/outbox"), 0o777) },
		"no setgid":           func() error { return os.Chmod(r.path("var/lib/cis490/data/episodes"), 0o770) },
		"a closed config":     func() error { return os.Chmod(r.path("etc/cis490/lab-host.toml"), 0o600) },
		"an abandoned file":   func() error { return os.Symlink("/x", r.path("opt/cis490/good.partial")) },
		"an interrupted copy": func() error { return replace(r.path("opt/cis490/versions/v1.0.0/cis490.partial"), "half") },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		r.apply(r.options(install.LabHost))
		got := timeless(r.tree())
		// What was abandoned is beside it, and is replaced by the next attempt.
		delete(got, "/opt/cis490/good.partial")
		delete(got, "/opt/cis490/versions/v1.0.0/cis490.partial")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestApply_RefusesWhatIsInTheWay(t *testing.T) {
	for name, c := range map[string]struct{ file, dir, link string }{
		"a file for a version":   {file: "opt/cis490/versions/v1.0.0"},
		"a folder for a binary":  {dir: "opt/cis490/versions/v1.0.0/cis490"},
		"a folder for a link":    {dir: "opt/cis490/current"},
		"a folder for a unit":    {dir: "etc/systemd/system/cis490-shipper.service"},
		"a file for a folder":    {file: "var/lib/cis490/data"},
		"a symlink for a folder": {link: "var/lib/cis490/data/outbox"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newHarness(t)
			at := c.file + c.dir + c.link
			if err := os.MkdirAll(filepath.Dir(r.path(at)), 0o755); err != nil {
				t.Fatal(err)
			}
			switch {
			case c.dir != "":
				if err := os.MkdirAll(r.path(at)+"/kept", 0o755); err != nil {
					t.Fatal(err)
				}
			case c.link != "":
				if err := os.Symlink(t.TempDir(), r.path(at)); err != nil {
					t.Fatal(err)
				}
			default:
				r.write(at, "kept")
			}
			p, err := install.New(r.options(install.LabHost))
			if err != nil {
				t.Fatal(err)
			}
			err = p.Apply(t.Context())
			if err == nil || !strings.Contains(err.Error(), "/"+at) || !strings.Contains(fault.FixOf(err), "sudo mv /"+at) {
				t.Errorf("error %v, fix %q", err, fault.FixOf(err))
			}
			if !r.exists(at) {
				t.Error("it was removed")
			}
		})
	}
}

// TestLinks_AnInstalledBinaryDoesNotVouchForItself: during a trial the new version's own
// install runs, and must keep the way back.
func TestLinks_AnInstalledBinaryDoesNotVouchForItself(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	r.write("opt/cis490/versions/v2.0.0/cis490", "second build")
	if err := os.Chmod(r.path("opt/cis490/versions/v2.0.0/cis490"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.binary, r.version = r.path("opt/cis490/versions/v2.0.0/cis490"), "v2.0.0"
	r.apply(r.options(install.LabHost))
	for link, want := range map[string]string{"current": "versions/v2.0.0", "good": "versions/v1.0.0"} {
		if got, err := os.Readlink(r.path("opt/cis490/" + link)); err != nil || got != want {
			t.Errorf("%s points to %q, want %q", link, got, want)
		}
	}
	// A binary that a person brings is trusted.
	r.binary, r.version = r.carried("third build"), "v3.0.0"
	r.apply(r.options(install.LabHost))
	for _, link := range []string{"current", "good"} {
		if got, err := os.Readlink(r.path("opt/cis490/" + link)); err != nil || got != "versions/v3.0.0" {
			t.Errorf("%s points to %q", link, got)
		}
	}
}

// A token for many hosts leaves the name to the machine.
func TestJoin_TokenForManyHosts(t *testing.T) {
	r := newHarness(t)
	o := r.options(install.LabHost)
	many := token("")
	many.Pattern = "room12-*"
	o.Token, o.Name = many.String(), "lab-01"
	if _, err := install.New(o); err == nil || !strings.Contains(err.Error(), "is for room12-*") {
		t.Error(err)
	}
	o.Name = "room12-07"
	r.apply(o)
	if got := r.read("etc/cis490/lab-host.toml"); !strings.Contains(got, `host = "room12-07"`) {
		t.Error(got)
	}
	o.Name = "" // the config has the name now
	if _, err := install.New(o); err != nil {
		t.Error(err)
	}
}

func TestJoin_TheSameTokenIsHandedOverOnce(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	const waiting = "etc/cis490/certs/join-token"
	r.apply(r.options(install.LabHost))
	if out, calls := r.apply(r.options(install.LabHost)); len(calls) > 0 || r.exists(waiting) {
		t.Errorf("the same token was used again: %s", out)
	}
	// A new token is a new enrollment: this host may have been removed from the roster.
	o := r.options(install.LabHost)
	again := token("lab-01")
	again.Secret = wire.NewTokenSecret([16]byte{1})
	o.Token = again.String()
	r.manager.fetch = nil // the authority is away
	out, calls := r.apply(o)
	if diff := cmp.Diff([]string{"start cis490-cert-fetch.service"}, calls); diff != "" {
		t.Error(diff)
	}
	if got := r.read(waiting); got != o.Token+"\n" {
		t.Errorf("join-token holds %q", got)
	}
	if fi, err := os.Stat(r.path(waiting)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("join-token: %v %v", fi.Mode(), err)
	}
	if !strings.Contains(out, "no certificate yet") {
		t.Errorf("the missing certificate is not reported:\n%s", out)
	}
	// Without a token nothing is fetched, and the state is kept.
	o.Token = ""
	if err := os.Remove(r.path(waiting)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.path("etc/cis490/certs/lab-host.pem")); err != nil {
		t.Fatal(err)
	}
	if out, calls := r.apply(o); len(calls) > 0 || !strings.Contains(out, "cis490 token create lab-01") {
		t.Errorf("%v\n%s", calls, out)
	}
}

// TestInstall_PrintsOneLinePerStep: in the past tense, on a new machine and with a stopped
// service.
func TestInstall_PrintsOneLinePerStep(t *testing.T) {
	r := newHarness(t)
	o := r.options(install.Receiver)
	o.Verbose = false
	out, _ := r.apply(o)
	if n := strings.Count(out, "\n"); n > 14 || strings.Contains(out, "missing") ||
		!regexp.MustCompile(`(?m)^units +wrote .*bootstrap\.service, .*receiver\.service and 4 more$`).MatchString(out) {
		t.Errorf("%d lines:\n%s", n, out)
	}
	r.manager.unit("cis490-receiver.service").Active = false
	if out, _ := r.apply(o); out != "services        started cis490-receiver.service\nreceiver: 1 changed\n" {
		t.Errorf("of a stopped service:\n%s", out)
	}
	r.manager.unit("cis490-fleet-health.timer").Stuck = true
	if out, _ := r.apply(o); out != "services        restarted cis490-fleet-health.timer\nreceiver: 1 changed\n" {
		t.Errorf("of a timer without a next run:\n%s", out)
	}
	r.manager.unit("cis490-receiver.service").Active = false
	o.Update = true
	if out, _ := r.apply(o); !strings.Contains(out, "changed  services: started cis490-receiver.service, which was not running\n") {
		t.Errorf("an update of a stopped service:\n%s", out)
	}
}

func TestJoin_ARefusedTokenFailsTheInstall(t *testing.T) {
	r := newHarness(t)
	r.manager.fetch = func() error { return errors.New("exit status 1") }
	r.manager.logs = "cis490: error: enroll with https://collector.lab:8444: join token was used already\n" +
		"cis490: hint: on the receiver: sudo cis490 token create lab-01\n"
	p, err := install.New(r.options(install.LabHost))
	if err != nil {
		t.Fatal(err)
	}
	err = p.Apply(t.Context())
	if err == nil || !strings.Contains(err.Error(), "join token was used already") || fault.CodeOf(err) != fault.Failed ||
		fault.FixOf(err) != "on the receiver: sudo cis490 token create lab-01" {
		t.Errorf("error %v, code %d, fix %q", err, fault.CodeOf(err), fault.FixOf(err))
	}
	if !r.manager.unit("cis490-cert-fetch.timer").Active || strings.Contains(r.out.String(), "changed  enrollment") {
		t.Errorf("after a refused token:\n%s", r.out.String())
	}
	o := r.options(install.LabHost)
	o.Update = true // a token that waits does not fail a release
	r.apply(o)
}

func TestOperatorToken_IsMadeOnce(t *testing.T) {
	r := newHarness(t)
	r.apply(r.options(install.Receiver))
	first := r.read("etc/cis490/operator")
	if len(strings.TrimSpace(first)) != 43 {
		t.Errorf("operator token is %d characters", len(first))
	}
	if err := os.Remove(r.path("etc/cis490/operator")); err != nil {
		t.Fatal(err)
	}
	out, _ := r.apply(r.options(install.Receiver))
	second := r.read("etc/cis490/operator")
	if second == first || strings.Contains(out, strings.TrimSpace(second)) {
		t.Error("the token was not recreated, or was shown")
	}
}

func TestLock_OneAtATime(t *testing.T) {
	r := newHarness(t)
	p, err := install.New(r.options(install.LabHost))
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := install.Lock(t.Context(), osFS, r.root)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := withTimeout(t, 300*time.Millisecond)
	defer cancel()
	err = p.Apply(ctx)
	if fault.CodeOf(err) != fault.TempFail || r.exists("etc") {
		t.Errorf("beside another install: %v", err)
	}
	unlock()
	r.apply(r.options(install.LabHost))
}
