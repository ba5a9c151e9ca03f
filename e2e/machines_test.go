//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestMachines_TooOld: install rejects a machine with an old systemd, prints the reason and
// changes nothing.
func TestMachines_TooOld(t *testing.T) {
	inLane(t)
	h := lab.NewOf(t, "bullseye").Boot("lab-01")
	h.Push(lab.Binary(t), "/root/cis490")
	for _, role := range []string{"receiver --public-url https://collector.lab:8443", "lab-host"} {
		r := h.Try("cd /root && ./cis490 install " + role)
		if r.Code == 0 || !strings.Contains(r.Err, "systemd 247 is too old") || !strings.Contains(r.Err, "hint: cat /etc/os-release") {
			t.Errorf("install %s: %s", role, r)
		}
	}
	if left := h.Run("ls -d /opt/cis490 /etc/cis490 /var/lib/cis490 /etc/systemd/system/cis490-* 2>/dev/null; getent passwd cis490 || " +
		":"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// TestMachines_Newer runs receiver and lab host on the next release of Debian.
func TestMachines_Newer(t *testing.T) {
	inLane(t)
	u := updatesIn(t, lab.NewOf(t, "trixie"), nil)
	h := u.Boot("lab-01")
	u.join(h)
	u.checkLifecycle(h)
}

// TestMachines_Hardened joins a lab host with umask 077, /tmp noexec, a name in capitals,
// no curl, and /opt and /var/lib/cis490 on another disk.
func TestMachines_Hardened(t *testing.T) {
	inLane(t)
	u := newUpdates(t, nil)
	h := u.Boot("lab-01")
	h.Run(`mkdir -p /big/opt /big/data && rmdir /opt && ln -s /big/opt /opt && ln -s /big/data /var/lib/cis490
mount -t tmpfs -o noexec none /tmp && hostname LAB-01
printf '#!/bin/sh\nwhile [ $# -gt 1 ]; do case $1 in -O) to=$2;; esac; shift; done
exec /usr/bin/curl.real -fsSk -o $to $1\n' >/usr/local/bin/wget
chmod +x /usr/local/bin/wget && mv /usr/bin/curl /usr/bin/curl.real`)
	u.rx.Run("cis490 token create lab-01 --out /root/join.sh")
	h.Run("cat >/root/join.sh <<'END'\n" + u.rx.Run("cat /root/join.sh") + "\nEND\numask 077 && sh /root/join.sh")
	h.Run("mv /usr/bin/curl.real /usr/bin/curl")
	u.checkLifecycle(h)
}

// TestMachines_OptIsALink joins a lab host whose /opt/cis490 is a symlink to another disk.
func TestMachines_OptIsALink(t *testing.T) {
	inLane(t)
	u := newUpdates(t, nil)
	h := u.Boot("lab-01")
	h.Run("mkdir -p /big/cis490 && ln -s /big/cis490 /opt/cis490")
	u.join(h)
	u.checkLifecycle(h)
}

// TestMachines_SharedUsers: with the drop-in that install and doctor print, the services
// run without a user namespace.
func TestMachines_SharedUsers(t *testing.T) {
	inLane(t)
	u := newUpdates(t, nil)
	h := u.Boot("lab-01")
	h.Run(`mkdir -p /etc/systemd/system/cis490-.service.d && printf '[Service]\nPrivateUsers=no\n' ` +
		`>/etc/systemd/system/cis490-.service.d/users.conf`)
	u.join(h)
	if got := h.Run("systemctl show -p PrivateUsers cis490-shipper cis490-orchestrator"); strings.Contains(got, "yes") {
		t.Errorf("the drop-in has no effect: %s", got)
	}
	u.checkLifecycle(h)
}

// hardening is what Debian's package hardening-runtime sets at boot.
const hardening = `kernel.dmesg_restrict=1 kernel.kptr_restrict=2 kernel.perf_event_paranoid=3 kernel.unprivileged_bpf_disabled=1
kernel.yama.ptrace_scope=2 kernel.sysrq=0 fs.protected_fifos=2 fs.protected_hardlinks=1 fs.protected_regular=2
fs.protected_symlinks=1 fs.suid_dumpable=0 net.core.bpf_jit_harden=2 user.max_user_namespaces=0`

// TestMachines_NoUserNamespaces: install rejects a lab host with the kernel settings of
// hardening-runtime, changes nothing, and prints a fix that works. Only a guest has its own
// kernel settings.
func TestMachines_NoUserNamespaces(t *testing.T) {
	inLane(t)
	lab.NeedGuests(t)
	u := newUpdates(t, nil)
	g := u.BootGuest("lab-01", 0)
	g.Run("for s in " + strings.ReplaceAll(hardening, "\n", " ") + "; do sysctl -w $s || test -n \"${s##user.*}\"; done")
	paste := "cd /root\n" + u.rx.Run("cis490 token create lab-01")
	r := g.Try(paste)
	if r.Code == 0 || !strings.Contains(r.Out, "user namespace") || !strings.Contains(r.Out, "PrivateUsers=no") {
		t.Fatalf("install: %s", r)
	}
	if left := g.Run("ls -d /opt/cis490 /etc/cis490 /var/lib/cis490 /etc/systemd/system/cis490-*.service 2>/dev/null; " +
		"getent passwd cis490 || :"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	_, fix, _ := strings.Cut(r.Out, "hint: ")
	fix, _, _ = strings.Cut(fix, "\n")
	g.Run(fix)
	g.Run(paste)
	u.checkLifecycle(g)
}

// anyMachine is a Host or a Guest.
type anyMachine interface {
	Run(command string) string
	Try(command string) lab.Result
	Eventually(limit time.Duration, what, command string) string
}

// checkLifecycle checks that a joined machine ships, a second install changes nothing,
// doctor reports no fault, the next release passes its trial, and uninstall leaves no
// service.
func (u *updates) checkLifecycle(m anyMachine) {
	u.t.Helper()
	shipped := func(version string) {
		u.t.Helper()
		u.rx.Eventually(4*time.Minute, "an episode by "+version, "grep -q "+commitOf(version)+" /var/lib/cis490/index.jsonl")
	}
	shipped("v1")
	if out := m.Run("umask 077; cis490 install lab-host"); !strings.Contains(out, "in sync, nothing changed") {
		u.t.Errorf("installed again:\n%s", out)
	}
	if r := m.Try("cis490 doctor"); r.Code != 0 {
		u.t.Errorf("doctor: %s", r)
	}
	recordLight(m)
	m.Run(fastUpdates("lab-host.toml", "cis490-shipper cis490-orchestrator"))
	u.publish("v2", lab.BinaryWith(u.t, "v2", commitOf("v2")))
	u.rx.Run("cis490 release promote --seq 2 --force")
	m.Eventually(6*time.Minute, "v2 has passed its trial", `jq -e '.good.version == "v2" and .trial == null' /opt/cis490/autoupdate.json`)
	shipped("v2")
	if r := m.Try("cis490 doctor"); r.Code != 0 {
		u.t.Errorf("doctor of v2: %s", r)
	}
	m.Run("cis490 uninstall lab-host --abandon-data")
	if left := m.Run("ls -d /etc/systemd/system/cis490-*.timer /etc/systemd/system/cis490-*.service /usr/local/bin/cis490 2>/dev/null || " +
		":"); left != "" {
		u.t.Errorf("uninstall left:\n%s", left)
	}
}
