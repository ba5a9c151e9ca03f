package install_test

import (
	"os"
	"strings"
	"testing"

	"cis490/install"
	"cis490/internal/fault"
)

func (r *harness) uninstall(role install.Role, abandon bool) error {
	r.t.Helper()
	r.out.Reset()
	r.manager.calls = nil
	return install.Uninstall(r.t.Context(), install.UninstallOptions{
		Role: role, Root: r.root, AbandonData: abandon, Out: &r.out, Manager: r.manager,
	})
}

func TestUninstall_LeavesDataAndTheSitesOwn(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	const units = "etc/systemd/system/"
	r.write(units+"cis490-shipper.service.d/site.conf", "[Service]\n")
	r.write("var/lib/cis490/data/shipped/receipts.jsonl", "{}\n")
	const maskedTimer = units + "cis490-autoupdate.timer"
	if err := relink(r.path(maskedTimer), "/dev/null"); err != nil {
		t.Fatal(err)
	}
	// A file that is missing left its link behind.
	if err := os.MkdirAll(r.path(units+"multi-user.target.wants"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/x", r.path(units+"multi-user.target.wants/cis490-orchestrator.service")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.path(units + "cis490-orchestrator.service")); err != nil {
		t.Fatal(err)
	}
	r.write("etc/cis490/lab-host.toml", "no TOML at all")

	for range 2 { // the second time there is nothing to do, which is not an error
		if err := r.uninstall(install.LabHost, false); err != nil {
			t.Fatal(err)
		}
	}
	for path := range r.tree() {
		unit := strings.HasPrefix(path, "/"+units) && strings.Contains(path, "/cis490-") && !strings.Contains(path, ".service.d")
		if strings.HasPrefix(path, "/opt/cis490") || path == "/usr/local/bin/cis490" || unit && path != "/"+maskedTimer {
			t.Errorf("%s is left", path)
		}
	}
	for _, kept := range []string{
		maskedTimer, units + "cis490-shipper.service.d/site.conf", "var/lib/cis490/data/shipped/receipts.jsonl",
		"etc/cis490/lab-host.toml", "etc/cis490/certs/lab-host.pem",
	} {
		if !r.exists(kept) {
			t.Errorf("%s is gone", kept)
		}
	}
}

func TestUninstall_StopsBeforeItRemoves(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	r.manager.fail = "stop cis490-shipper.service"
	err := r.uninstall(install.LabHost, false)
	if err == nil || !strings.Contains(err.Error(), "cis490-shipper") {
		t.Errorf("error: %v", err)
	}
	if r.exists("etc/systemd/system/cis490-orchestrator.service") || r.exists("opt/cis490") {
		t.Error("one failure kept the rest from being removed")
	}
	last := map[string]int{}
	for i, c := range r.manager.calls {
		last[strings.Fields(c)[0]] = i
	}
	if last["stop"] > last["disable"] || last["disable"] > last["daemon-reload"] || last["daemon-reload"] > last["reset-failed"] {
		t.Errorf("order: %v", r.manager.calls)
	}
	if !strings.HasSuffix(r.manager.calls[0], ".timer") {
		t.Errorf("a timer could restart a service: %v", r.manager.calls)
	}
}

// TestUninstall_RefusesWhileEpisodesAreUnshipped counts each episode once, also one that is
// packed while its folder still exists.
func TestUninstall_RefusesWhileEpisodesAreUnshipped(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	const data = "var/lib/cis490/data/"
	r.write(data+"episodes/01A/done.marker", "")
	r.write(data+"episodes/01A/meta.json", strings.Repeat("x", 500))
	r.write(data+"episodes/01B/meta.json", "still recording")
	r.write(data+"outbox/01A.tar.zst", strings.Repeat("x", 100))
	r.write(data+"outbox/01C.tar.zst", strings.Repeat("x", 924))
	r.write(data+"outbox/01D.tar.zst.partial", "half")
	before := r.tree()
	err := r.uninstall(install.LabHost, false)
	if err == nil || !strings.Contains(err.Error(), "2 episodes (1.0 KiB)") || !strings.Contains(fault.FixOf(err), "--abandon-data") {
		t.Errorf("error %v, fix %q", err, fault.FixOf(err))
	}
	if after := r.tree(); len(after) != len(before) || len(r.manager.calls) > 0 {
		t.Error("it changed something and refused")
	}
	if err := r.uninstall(install.LabHost, true); err != nil {
		t.Fatal(err)
	}
	if !r.exists(data+"outbox/01C.tar.zst") || r.exists("opt/cis490") {
		t.Error("abandoned data is kept, the program is not")
	}
}

func TestUninstall_KeepsTheOtherRole(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.Receiver))
	r.apply(r.options(install.LabHost))
	if err := r.uninstall(install.LabHost, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.manager.calls {
		if strings.Contains(c, "autoupdate") || strings.Contains(c, "receiver") {
			t.Errorf("the receiver was touched: %s", c)
		}
	}
	r.apply(r.options(install.Receiver))
	if out, n := r.drift(r.options(install.Receiver)); n != 0 || r.exists("etc/systemd/system/cis490-shipper.service") {
		t.Error(out)
	}
}

// TestUninstall_PurgeAlone: of a machine with one role, nothing is left.
func TestUninstall_PurgeAlone(t *testing.T) {
	for _, role := range []install.Role{install.LabHost, install.Receiver} {
		r := newHarness(t)
		r.enrolls()
		r.apply(r.options(role))
		err := install.Uninstall(t.Context(), install.UninstallOptions{Role: role, Root: r.root, Purge: true, Out: &r.out, Manager: r.manager})
		if err != nil {
			t.Fatal(err)
		}
		for path := range r.tree() {
			if strings.Contains(path, "cis490") {
				t.Errorf("%s: %s is left", role, path)
			}
		}
	}
}

// TestUninstall_Purge: nothing of the role is left, and everything of the other role.
func TestUninstall_Purge(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	r.apply(r.options(install.Receiver))
	const shipped, stored = "var/lib/cis490/data/shipped/receipts.jsonl", "var/lib/cis490/episodes/lab-01/01A.tar.zst"
	r.write(shipped, "{}\n")
	r.write(stored, "episode")
	purge := func(role install.Role) error {
		return install.Uninstall(t.Context(), install.UninstallOptions{Role: role, Root: r.root, Purge: true, Out: &r.out, Manager: r.manager})
	}
	err := purge(install.Receiver)
	if want := "sudo cis490 uninstall lab-host --purge   # first"; err == nil || fault.FixOf(err) != want || !r.exists(shipped) {
		t.Errorf("a receiver above a lab host's data: %v; fix: %s", err, fault.FixOf(err))
	}
	if err := purge(install.LabHost); err != nil {
		t.Fatal(err)
	}
	if r.exists(shipped) || r.exists("etc/cis490/lab-host.toml") || r.exists("etc/cis490/certs") {
		t.Error("the lab host's data, config or certificate is left")
	}
	if !r.exists(stored) || !r.exists("etc/cis490/receiver.toml") || !r.exists("etc/cis490/operator") {
		t.Error("something of the receiver is gone")
	}
	if err := purge(install.Receiver); err != nil {
		t.Fatal(err)
	}
	for path := range r.tree() {
		if strings.Contains(path, "cis490") {
			t.Errorf("%s is left", path)
		}
	}
}

// TestUninstall_PurgeKeepsAbandonedEpisodes: what a lab host on the same machine left behind
// is not deleted with the receiver.
func TestUninstall_PurgeKeepsAbandonedEpisodes(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	r.apply(r.options(install.Receiver))
	const waits = "var/lib/cis490/data/outbox/01A.tar.zst"
	r.write(waits, "episode")
	if err := r.uninstall(install.LabHost, true); err != nil {
		t.Fatal(err)
	}
	err := install.Uninstall(t.Context(), install.UninstallOptions{
		Role: install.Receiver, Root: r.root, Purge: true, Out: &r.out, Manager: r.manager,
	})
	if err == nil || !strings.HasPrefix(fault.FixOf(err), "sudo cis490 uninstall lab-host --purge --abandon-data") || !r.exists(waits) {
		t.Errorf("%v; fix: %s", err, fault.FixOf(err))
	}
}
