//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestMachines_TooOld: a machine whose systemd is too old is refused with the reason, and
// nothing on it was changed.
func TestMachines_TooOld(t *testing.T) {
	h := lab.NewOf(t, "bullseye").Boot("lab-01")
	h.Push(lab.Binary(t), "/root/cis490")
	r := h.Try("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	if r.Code == 0 || !strings.Contains(r.Err, "systemd 247 is too old") || !strings.Contains(r.Err, "hint: cat /etc/os-release") {
		t.Errorf("install: %s", r)
	}
	if left := h.Run("ls -d /opt/cis490 /etc/cis490 /var/lib/cis490 /etc/systemd/system/cis490-* 2>/dev/null; getent passwd cis490 || :"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// TestMachines_Newer: the whole life of a lab host on the next release of Debian.
func TestMachines_Newer(t *testing.T) {
	f := fleetIn(t, lab.NewOf(t, "trixie"), "lab-01")
	f.waitAccepted(f.hosts[0], 1, time.Minute)
	f.staysAndLeaves(f.hosts[0])
}

// TestMachines_Hardened: a lab host with a closed umask, /tmp noexec, a name in capitals,
// no curl, and /opt and /var/lib/cis490 on another disk joins with the script.
func TestMachines_Hardened(t *testing.T) {
	f := newFleet(t)
	h := f.Boot("lab-01")
	f.hosts = append(f.hosts, h)
	h.Run(`mkdir -p /big/opt /big/data && rmdir /opt && ln -s /big/opt /opt && ln -s /big/data /var/lib/cis490
mount -t tmpfs -o noexec none /tmp && hostname LAB-01
printf '#!/bin/sh\nwhile [ $# -gt 1 ]; do case $1 in -O) to=$2;; esac; shift; done\nexec /usr/bin/curl.real -fsSk -o $to $1\n' >/usr/local/bin/wget
chmod +x /usr/local/bin/wget && mv /usr/bin/curl /usr/bin/curl.real`)
	f.rx.Run("cis490 token create lab-01 --out /root/join.sh")
	h.Run("cat >/root/join.sh <<'END'\n" + f.rx.Run("cat /root/join.sh") + "\nEND\numask 077 && sh /root/join.sh")
	h.Run("mv /usr/bin/curl.real /usr/bin/curl")
	f.waitAccepted(h, 1, time.Minute)
	f.staysAndLeaves(h)
}

// TestMachines_SharedUsers: with the drop-in that install and doctor name, the services run
// without a user namespace.
func TestMachines_SharedUsers(t *testing.T) {
	f := newFleet(t)
	h := f.Boot("lab-01")
	f.hosts = append(f.hosts, h)
	h.Run(`mkdir -p /etc/systemd/system/cis490-.service.d && printf '[Service]\nPrivateUsers=no\n' >/etc/systemd/system/cis490-.service.d/users.conf`)
	f.join(h)
	f.waitAccepted(h, 1, time.Minute)
	if got := h.Run("systemctl show -p PrivateUsers cis490-shipper cis490-orchestrator"); strings.Contains(got, "yes") {
		t.Errorf("the drop-in does not count: %s", got)
	}
	f.staysAndLeaves(h)
}

// staysAndLeaves: a second install changes nothing, doctor finds no fault, and uninstall
// leaves no service.
func (f *fleet) staysAndLeaves(h *lab.Host) {
	f.t.Helper()
	if out := h.Run("umask 077; cis490 install lab-host"); !strings.Contains(out, "in sync, nothing changed") {
		f.t.Errorf("installed again:\n%s", out)
	}
	if r := h.Try("cis490 doctor"); r.Code != 0 {
		f.t.Errorf("doctor: %s", r)
	}
	h.Run("cis490 uninstall lab-host --abandon-data")
	if left := h.Run("ls -d /etc/systemd/system/cis490-*.timer /etc/systemd/system/cis490-*.service /usr/local/bin/cis490 2>/dev/null || :"); left != "" {
		f.t.Errorf("uninstall left:\n%s", left)
	}
}
