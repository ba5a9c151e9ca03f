//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// installState prints what an install without changes must not touch: times, owners and
// modes of files, and the start times of services.
const installState = `find /opt/cis490 /etc/cis490 /etc/systemd/system /usr/local/bin/cis490 \
  \( -name lock -o -name autoupdate.json \) -prune -o \( -type f -o -type l \) -printf '%p %T@ %u:%g %m %l\n' | sort
systemctl show -p Id,ExecMainStartTimestampMonotonic,MainPID cis490-shipper cis490-orchestrator cis490-receiver cis490-bootstrap`

// TestIncident07_InstallAgain: an install copied its binary onto itself and aborted, and
// another left the old code running. Now install can run from any folder and any number of
// times: a second run changes nothing; changes by hand are reported, shown as a diff and
// repaired; a new build is running afterwards; drop-ins and masks of the site stay.
func TestIncident07_InstallAgain(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 15*time.Second)
	for _, m := range []struct {
		h       *lab.Host
		install string
		unit    string
	}{
		{f.rx, "install receiver", "cis490-receiver.service"},
		{h, "install lab-host", "cis490-shipper.service"},
	} {
		before := m.h.Run(installState)
		out := m.h.Run("cis490 " + m.install)
		if regexp.MustCompile(`(?m)^\s*changed`).MatchString(out) {
			t.Errorf("%s: a second install changed something:\n%s", m.h.Name, out)
		}
		if after := m.h.Run(installState); after != before {
			t.Errorf("%s: a second install changed files or services:\nbefore:\n%s\nafter:\n%s", m.h.Name, before, after)
		}
		if r := m.h.Try("cis490 " + m.install + " --check"); r.Code != 0 {
			t.Errorf("%s: --check right after install: %s", m.h.Name, r)
		}

		// Changes that belong to the site: a drop-in and a masked timer.
		m.h.Run("mkdir -p /etc/systemd/system/" + m.unit + ".d && printf '[Service]\\nEnvironment=SITE=1\\n' > /etc/systemd/system/" +
			m.unit + ".d/site.conf && systemctl daemon-reload")
		m.h.Run("systemctl disable --now cis490-autoupdate.timer && mv /etc/systemd/system/cis490-autoupdate.timer /root/ && " +
			"systemctl mask cis490-autoupdate.timer")
		// A change by hand of a file that install owns.
		m.h.Run("sed -i 's/^WatchdogSec=.*/WatchdogSec=7/' /etc/systemd/system/" + m.unit)
		if r := m.h.Try("cis490 " + m.install + " --check"); r.Code != 1 || !strings.Contains(r.Out+r.Err, m.unit) {
			t.Errorf("%s: --check of an edited unit: %s", m.h.Name, r)
		}
		if r := m.h.Try("cis490 " + m.install + " --dry-run"); !strings.Contains(r.Out, "-WatchdogSec=7") ||
			!strings.Contains(r.Out, "+WatchdogSec=180") {
			t.Errorf("%s: --dry-run shows no diff: %s", m.h.Name, r)
		}
		if unit := m.h.Read("/etc/systemd/system/" + m.unit); !strings.Contains(unit, "WatchdogSec=7\n") {
			t.Errorf("%s: --dry-run changed the unit", m.h.Name)
		}
		m.h.Run("cis490 " + m.install)
		if got := m.h.Run("systemctl show -p WatchdogUSec --value " + m.unit); got != "3min" {
			t.Errorf("%s: watchdog of %s is %s after the repair", m.h.Name, m.unit, got)
		}
		if env := m.h.Run("systemctl show -p Environment --value " + m.unit); !strings.Contains(env, "SITE=1") {
			t.Errorf("%s: the drop-in is gone: Environment=%s", m.h.Name, env)
		}
		if masked := m.h.Try("systemctl is-enabled cis490-autoupdate.timer").Out; strings.TrimSpace(masked) != "masked" {
			t.Errorf("%s: the mask is gone: %s", m.h.Name, masked)
		}
	}
	f.checkInstallFromAnywhere(h)
	f.checkNewBuildRuns()
}

// checkInstallFromAnywhere checks that an install changes nothing, wherever the binary
// lies and however it is called.
func (f *fleet) checkInstallFromAnywhere(h *lab.Host) {
	f.t.Helper()
	before := h.Run(installState)
	h.Run(`mkdir -p "/srv/a b" && cp /root/cis490 "/srv/a b/" && ln -s ../opt/cis490/current /srv/link`)
	for _, place := range []string{
		"cd / && /opt/cis490/current/cis490", "cd /opt/cis490/current && ./cis490", "cd /opt/cis490/versions/* && ./cis490",
		"/usr/local/bin/cis490", "/srv/link/cis490", "/opt/cis490/good/cis490", "cd /tmp && /root/cis490", `"/srv/a b/cis490"`,
		"cd /srv && mkdir gone && cd gone && rmdir ../gone && /root/cis490",
	} {
		for range 2 {
			if r := h.Try(place + " install lab-host"); r.Code != 0 {
				f.t.Errorf("%s install lab-host: %s", place, r)
			}
			if after := h.Run(installState); after != before {
				f.t.Errorf("%s changed files or services:\nbefore:\n%s\nafter:\n%s", place, before, after)
			}
		}
	}
}

// checkNewBuildRuns checks on both machines that no service runs the old code after the
// install of another build.
func (f *fleet) checkNewBuildRuns() {
	f.t.Helper()
	var detected, healed time.Duration
	for _, m := range []struct {
		h       *lab.Host
		role    string
		daemons []string
	}{
		{f.rx, "receiver", []string{"cis490-receiver", "cis490-bootstrap"}},
		{f.hosts[0], "lab-host", []string{"cis490-shipper", "cis490-orchestrator"}},
	} {
		m.h.Push(lab.BinaryWith(f.t, "0.0.1-other", strings.Repeat("a", 40)), "/root/other")
		began := time.Now()
		if r := m.h.Try("/root/other install " + m.role + " --check"); r.Code != 1 {
			f.t.Errorf("%s: --check of another build: %s", m.h.Name, r)
		}
		detected = max(detected, time.Since(began))
		began = time.Now()
		m.h.Run("/root/other install " + m.role)
		healed = max(healed, time.Since(began))
		for _, unit := range m.daemons {
			if r := m.h.Try("cmp /root/other /proc/$(systemctl show -p MainPID --value " + unit + ")/exe"); r.Code != 0 {
				f.t.Errorf("%s: %s runs the old code: %s", m.h.Name, unit, r)
			}
		}
		if r := m.h.Try("/root/other install " + m.role + " --check"); r.Code != 0 {
			f.t.Errorf("%s: --check after another build's install: %s", m.h.Name, r)
		}
	}
	reportTimes(f.t, detected, healed)
}

// TestIncident07_InstallOverBroken: install repairs a partial or damaged install.
func TestIncident07_InstallOverBroken(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 15*time.Second)
	h.Write("/etc/cis490/lab-host.toml", shortRestConfig(h), 0o644)
	for name, damage := range map[string]string{
		"symlinks point nowhere": "rm /opt/cis490/current && ln -s versions/none /opt/cis490/current",
		"binary is half written": `for b in /opt/cis490/versions/*/cis490; do head -c 1000 $b > $b.x && mv $b.x $b; done`,
		"unit is empty":          ": > /etc/systemd/system/cis490-shipper.service; systemctl daemon-reload",
		"unit is gone":           "rm /etc/systemd/system/cis490-orchestrator.service; systemctl daemon-reload",
		"timers are gone":        "rm /etc/systemd/system/cis490-*.timer; systemctl daemon-reload",
		"folder has other owner": "chown root:root /var/lib/cis490/data/outbox && chmod 700 /var/lib/cis490/data/outbox",
		"services are disabled":  "systemctl disable --now cis490-shipper cis490-orchestrator cis490-cert-fetch.timer",
		"user is gone":           "systemctl stop cis490-orchestrator; userdel cis490-rec",
		"service runs old code": "cp -a /opt/cis490/versions /opt/cis490/v2 && rm -rf /opt/cis490/versions && " +
			"mv /opt/cis490/v2 /opt/cis490/versions",
	} {
		h.Run(damage)
		h.Run("/root/cis490 install lab-host")
		if r := h.Try("cis490 install lab-host --check"); r.Code != 0 {
			t.Errorf("%s: drift after install: %s", name, r)
		}
		if r := h.Try("systemctl is-enabled cis490-shipper cis490-orchestrator cis490-cert-fetch.timer"); r.Code != 0 {
			t.Errorf("%s: not all units are enabled: %s", name, r)
		}
		timers := "systemctl show -p SubState --value cis490-cert-fetch.timer cis490-doctor-check.timer cis490-autoupdate.timer"
		if states := h.Run(timers); strings.Contains(states, "elapsed") {
			t.Errorf("%s: a timer has no next run: %s", name, states)
		}
		n := len(f.index())
		f.rx.Eventually(90*time.Second, "an episode after: "+name, fmt.Sprintf("test $(%s | wc -l) -gt %d", f.state("index.jsonl"), n))
	}
}
