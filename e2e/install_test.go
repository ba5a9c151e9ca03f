//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestFirstEpisode: one receiver and three hosts, installed with the README's
// commands; each host's first episode is accepted within 15 seconds.
func TestFirstEpisode(t *testing.T) {
	f := newFleet(t)
	f.hosts = f.BootAll("lab-01", "lab-02", "lab-03")
	for _, h := range f.hosts {
		f.join(h)
		installed := time.Now()
		f.waitAccepted(h, 1, 15*time.Second)
		t.Logf("%s: first episode accepted %.1fs after its install ended", h.Name, time.Since(installed).Seconds())
	}
	if status := f.rx.Run("cis490 status"); !strings.Contains(status, "lab-01") || !strings.Contains(status, "lab-03") {
		t.Errorf("status does not show the hosts:\n%s", status)
	}
	for _, h := range append(f.hosts, f.rx) {
		if failed := h.Run("systemctl list-units --failed --no-legend 'cis490-*'"); failed != "" {
			t.Errorf("%s: failed units:\n%s", h.Name, failed)
		}
		unitsAreSound(t, h)
		if r := h.Try("cis490 doctor"); r.Code != 0 {
			t.Errorf("%s: doctor: %s", h.Name, r)
		}
	}
	f.nothingLostNothingTwice()
}

// unitsAreSound: systemd-analyze has nothing to say about any unit, and rates
// each unprivileged service at most 2.5.
func unitsAreSound(t *testing.T, h *lab.Host) {
	t.Helper()
	units := strings.Fields(h.Run("cd /etc/systemd/system && ls -d cis490-*.service cis490-*.timer"))
	if r := h.Try("systemd-analyze verify --recursive-errors=no " + strings.Join(units, " ")); r.Code != 0 || r.Err != "" || r.Out != "" {
		t.Errorf("%s: systemd-analyze verify: %s", h.Name, r)
	}
	exposure := regexp.MustCompile(`Overall exposure level for (\S+): ([0-9.]+)`)
	for _, u := range units {
		if !strings.HasSuffix(u, ".service") || u == "cis490-autoupdate.service" { // that one is root: it installs
			continue
		}
		out := h.Run("systemd-analyze security --no-pager " + u + " | tail -1")
		m := exposure.FindStringSubmatch(out)
		if m == nil {
			t.Errorf("%s: %s: no exposure level in %q", h.Name, u, out)
			continue
		}
		if level, err := strconv.ParseFloat(m[2], 64); err != nil || level > 2.5 {
			t.Errorf("%s: %s: exposure %s, want at most 2.5", h.Name, u, m[2])
		}
		t.Logf("%s: %s exposure %s", h.Name, u, m[2])
	}
}

// state is what an install that changes nothing must leave as it is: each file's
// time and content, and when each service was started.
const state = `find /opt/cis490 /etc/cis490 /etc/systemd/system /usr/local/bin/cis490 \( -name lock -o -name autoupdate.json \) -prune -o \( -type f -o -type l \) -printf '%p %T@ %u:%g %m %l\n' | sort
systemctl show -p Id,ExecMainStartTimestampMonotonic,MainPID cis490-shipper cis490-orchestrator cis490-receiver cis490-bootstrap`

// TestInstallAgain: a second install changes nothing; what was changed by hand is
// named, shown and mended; what belongs to the site is left alone.
func TestInstallAgain(t *testing.T) {
	t.Parallel()
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
		before := m.h.Run(state)
		out := m.h.Run("cis490 " + m.install)
		if regexp.MustCompile(`(?m)^\s*changed`).MatchString(out) {
			t.Errorf("%s: a second install changed something:\n%s", m.h.Name, out)
		}
		if after := m.h.Run(state); after != before {
			t.Errorf("%s: a second install left a trace:\nbefore:\n%s\nafter:\n%s", m.h.Name, before, after)
		}
		if r := m.h.Try("cis490 " + m.install + " --check"); r.Code != 0 {
			t.Errorf("%s: --check right after install: %s", m.h.Name, r)
		}

		// The site's own: a drop-in and a masked timer.
		m.h.Run("mkdir -p /etc/systemd/system/" + m.unit + ".d && printf '[Service]\\nEnvironment=SITE=1\\n' > /etc/systemd/system/" + m.unit + ".d/site.conf && systemctl daemon-reload")
		m.h.Run("systemctl disable --now cis490-autoupdate.timer && mv /etc/systemd/system/cis490-autoupdate.timer /root/ && systemctl mask cis490-autoupdate.timer")
		// A hand in our own.
		m.h.Run("sed -i 's/^WatchdogSec=.*/WatchdogSec=7/' /etc/systemd/system/" + m.unit)
		if r := m.h.Try("cis490 " + m.install + " --check"); r.Code != 1 || !strings.Contains(r.Out+r.Err, m.unit) {
			t.Errorf("%s: --check of an edited unit: %s", m.h.Name, r)
		}
		if r := m.h.Try("cis490 " + m.install + " --dry-run"); !strings.Contains(r.Out, "-WatchdogSec=7") || !strings.Contains(r.Out, "+WatchdogSec=180") {
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
	// Installing from the installed path and from elsewhere ends in the same state.
	before := h.Run(state)
	h.Run("cd / && /opt/cis490/current/cis490 install lab-host && cd /tmp && /root/cis490 install lab-host")
	if after := h.Run(state); after != before {
		t.Errorf("install from another place left a trace:\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestInstallOverBroken: a half-done or damaged install is no obstacle.
func TestInstallOverBroken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 15*time.Second)
	h.Write("/etc/cis490/lab-host.toml", quickRest(h), 0o644)
	for name, damage := range map[string]string{
		"symlinks point nowhere": "rm /opt/cis490/current && ln -s versions/none /opt/cis490/current",
		"binary is half written": `for b in /opt/cis490/versions/*/cis490; do head -c 1000 $b > $b.x && mv $b.x $b; done`,
		"unit is empty":          ": > /etc/systemd/system/cis490-shipper.service; systemctl daemon-reload",
		"unit is gone":           "rm /etc/systemd/system/cis490-orchestrator.service; systemctl daemon-reload",
		"folder has other owner": "chown root:root /var/lib/cis490/data/outbox && chmod 700 /var/lib/cis490/data/outbox",
		"services are disabled":  "systemctl disable --now cis490-shipper cis490-orchestrator cis490-cert-fetch.timer",
		"user is gone":           "systemctl stop cis490-orchestrator; userdel cis490-rec",
		"service runs old code":  "cp -a /opt/cis490/versions /opt/cis490/v2 && rm -rf /opt/cis490/versions && mv /opt/cis490/v2 /opt/cis490/versions",
	} {
		h.Run(damage)
		h.Run("/root/cis490 install lab-host")
		if r := h.Try("cis490 install lab-host --check"); r.Code != 0 {
			t.Errorf("%s: still drifted after install: %s", name, r)
		}
		n := strings.Count(f.rx.Read("/var/lib/cis490/index.jsonl"), "\n")
		f.rx.Eventually(90*time.Second, "an episode after: "+name, fmt.Sprintf("test $(wc -l < /var/lib/cis490/index.jsonl) -gt %d", n))
	}
}
