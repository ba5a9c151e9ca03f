//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestThief: a join token is stolen after its host has used it. The thief's
// machine is refused, the rightful host is not disturbed, and the maintainer is
// told: in the alerts, in syslog and in the roster. Sent away, the host is refused
// at its next request, its key renews no more, and with a new token it comes back.
func TestThief(t *testing.T) {
	t.Parallel()
	f := site(t, "", "lab-01")
	f.rx.Run("cd /root && ./cis490 install receiver")
	h := f.hosts[0]
	busy(h, time.Second, authorityURL)
	paste := f.rx.Run("cis490 token create lab-01")
	h.Run("cd /root\n" + paste)
	f.waitAccepted(h, 1, 30*time.Second)

	thief := f.Boot("thief")
	if r := thief.Try("cd /root\n" + paste); r.Code != 0 {
		t.Errorf("an install whose token is refused: %s", r)
	}
	if j := thief.Journal("cis490-cert-fetch"); !strings.Contains(j, "belongs to the key that used it first") {
		t.Errorf("the thief is not told:\n%s", j)
	}
	if r := thief.Try("test -e /etc/cis490/certs/lab-host.pem || test -e /etc/cis490/certs/bearer"); r.Code == 0 {
		t.Error("the thief has credentials")
	}
	f.rx.Run("systemctl start cis490-fleet-health.service")
	alerts := f.rx.Run("cis490 alerts list --json")
	if !strings.Contains(alerts, "token-misused") || !strings.Contains(alerts, thief.Addr) {
		t.Errorf("alerts: %s", alerts)
	}
	if j := f.rx.Journal(""); !strings.Contains(j, "cis490 fleet-alert host=lab-01 symptom=token-misused") {
		t.Error("nothing in syslog")
	}
	if list := f.rx.Run("cis490 host list"); !strings.Contains(list, "tried by another machine ("+thief.Addr) {
		t.Errorf("host list:\n%s", list)
	}
	if r := h.Try("cis490 cert-fetch --renew"); r.Code != 0 {
		t.Errorf("the rightful host cannot renew: %s", r)
	}
	n := f.accepted(h)
	f.waitAccepted(h, n+2, 30*time.Second)

	// Gone from the next request on, and for good.
	f.rx.Run("cis490 host decommission lab-01")
	if r := h.Try("cis490 ship --ping"); r.Code == 0 || !strings.Contains(r.Err, "decommissioned") {
		t.Errorf("the request after the decommission: %s", r)
	}
	if r := h.Try("cis490 cert-fetch --renew"); r.Code != 1 || !strings.Contains(r.Err, "decommissioned") {
		t.Errorf("renewal of a decommissioned host: %s", r)
	}
	if r := f.rx.Try("cis490 token create lab-01"); r.Code == 0 {
		t.Error("a token was made for a decommissioned host")
	}
	n = f.accepted(h)
	f.rx.Run("cis490 host readmit lab-01")
	if r := h.Try("cis490 cert-fetch --renew"); r.Code != 1 {
		t.Errorf("readmitted, and the old key is good again: %s", r)
	}
	f.join(h)
	f.waitAccepted(h, n+1, 30*time.Second)
}

// TestCloned: a machine's disk is copied, credentials and all. Both are heard
// under one name, and that is noticed.
func TestCloned(t *testing.T) {
	t.Parallel()
	f := site(t, "", "lab-01", "copy")
	f.rx.Run("cd /root && ./cis490 install receiver")
	h, other := f.hosts[0], f.hosts[1]
	f.hosts = []*lab.Host{h}
	busy(h, time.Second, authorityURL)
	f.join(h)
	f.waitAccepted(h, 1, 30*time.Second)
	other.Push(lab.Binary(t), "/usr/local/bin/cis490")
	for _, file := range []string{"/etc/cis490/lab-host.toml", "/etc/cis490/certs/lab-host.pem", "/etc/cis490/certs/ca.crt", "/etc/cis490/certs/bearer"} {
		other.Write(file, h.Read(file), 0o600)
	}
	other.Run("mkdir -p /var/lib/cis490/data")
	for range 2 { // in turns
		h.Run("cis490 ship --ping")
		other.Run("cis490 ship --ping")
		time.Sleep(1100 * time.Millisecond)
	}
	time.Sleep(4 * time.Second) // contacts are written every 3 s
	f.rx.Run("systemctl start cis490-fleet-health.service")
	if alerts := f.rx.Run("cis490 alerts list --json"); !strings.Contains(alerts, `"cloned"`) {
		t.Errorf("alerts: %s\ncontacts: %s", alerts, f.rx.Read("/var/lib/cis490/contacts.json"))
	}
}
