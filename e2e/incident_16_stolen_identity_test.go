//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestIncident16_StolenToken: a join token is stolen after its host has used it. The
// thief's machine is rejected, the rightful host keeps working, and alerts, syslog and
// roster report it. The host cannot send under another host's name. After a decommission,
// its next request and its renewal are rejected; with a new token it can join again.
func TestIncident16_StolenToken(t *testing.T) {
	inLane(t)
	f := newSite(t, "", "lab-01")
	f.rx.Run("cd /root && ./cis490 install receiver")
	setTimer(f.rx, "cis490-fleet-health", checkEvery)
	h := f.hosts[0]
	writeBusyConfig(h, time.Second, authorityURL)
	paste := f.rx.Run("cis490 token create lab-01")
	h.Run("cd /root\n" + paste)
	f.waitAccepted(h, 1, 30*time.Second)

	thief := f.Boot("thief")
	began := time.Now()
	if r := thief.Try("cd /root\n" + paste); r.Code != 1 || !strings.Contains(r.Err, "join token was used already") ||
		!strings.Contains(r.Err, "hint: on the receiver: sudo cis490 token create lab-01") {
		t.Errorf("an install with a rejected token: %s", r)
	}
	if j := thief.Journal("cis490-cert-fetch"); !strings.Contains(j, "is for the machine that used it first") {
		t.Errorf("the thief's cert-fetch does not log the reason:\n%s", j)
	}
	if r := thief.Try("test -e /etc/cis490/certs/lab-host.pem || test -e /etc/cis490/certs/bearer"); r.Code == 0 {
		t.Error("the thief has credentials")
	}
	a := f.waitAlert(time.Minute, "lab-01", "token-misused", "token-stolen")
	reportTimes(t, time.Since(began), 0) // the thief was rejected, so there is nothing to heal
	if !strings.Contains(a.Detail, thief.Addr) || !strings.Contains(a.Fix, "host decommission lab-01") {
		t.Errorf("the alert: %+v", a)
	}
	if j := f.rx.Journal(""); !strings.Contains(j, "cis490 fleet-alert host=lab-01 symptom=token-misused") {
		t.Error("syslog has no alert")
	}
	if list := f.rx.Run("cis490 host list"); !strings.Contains(list, "tried by another machine ("+thief.Addr) {
		t.Errorf("host list:\n%s", list)
	}
	if r := h.Try("cis490 cert-fetch --renew"); r.Code != 0 {
		t.Errorf("the rightful host cannot renew: %s", r)
	}
	n := f.accepted(h)
	f.waitAccepted(h, n+2, 30*time.Second)
	f.checkImpersonation(h)

	// Revoked from the next request on, and for good.
	f.rx.Run("cis490 host decommission lab-01")
	if r := h.Try("cis490 ship --ping"); r.Code == 0 || !strings.Contains(r.Err, "decommissioned") {
		t.Errorf("the request after the decommission: %s", r)
	}
	if r := h.Try("cis490 cert-fetch --renew"); r.Code != 1 || !strings.Contains(r.Err, "decommissioned") {
		t.Errorf("renewal of a decommissioned host: %s", r)
	}
	if r := f.rx.Try("cis490 token create lab-01"); r.Code == 0 {
		t.Error("token create accepted a decommissioned host")
	}
	n = f.accepted(h)
	f.rx.Run("cis490 host readmit lab-01")
	if r := h.Try("cis490 cert-fetch --renew"); r.Code != 1 {
		t.Errorf("after readmit, the old key renewed a certificate: %s", r)
	}
	// Readmitted without a token: page, command and alert say what is missing.
	a = f.waitAlert(2*checkEvery+20*time.Second, "lab-01", "doctor-failing", "certificate-revoked")
	const create = "sudo cis490 token create lab-01"
	if !strings.Contains(a.Fix, create) || !strings.Contains(a.Reason, "readmitted") {
		t.Errorf("the alert of a readmitted host: %+v", a)
	}
	page := "curl -fsk -H \"Authorization: Bearer $(cat /etc/cis490/operator)\" https://collector.lab:8443/hosts/lab-01"
	for _, command := range []string{"cis490 alerts list", "cis490 host show lab-01", page} {
		if out := f.rx.Run(command); !strings.Contains(out, create) || !strings.Contains(out, "readmitted") {
			t.Errorf("%s does not name the revocation and %q:\n%s", command, create, out)
		}
	}
	f.join(h)
	f.waitAccepted(h, n+1, 30*time.Second)
}

// checkImpersonation sends requests of an enrolled host under another host's name. Each is
// answered 403, and nothing is stored.
func (f *fleet) checkImpersonation(h *lab.Host) {
	f.t.Helper()
	f.rx.Run("cis490 token create lab-02")
	const id, url = "01J00000000000000000000000", "https://collector.lab:8443"
	const put = "echo x >/tmp/x; curl -s -w '\\n%{http_code}' -T /tmp/x --cacert /etc/cis490/certs/ca.crt --cert " +
		"/etc/cis490/certs/lab-host.pem " +
		`-H "Authorization: Bearer $(cat /etc/cis490/certs/bearer)" -H 'Content-Type: application/zstd' -H 'X-Schema-Version: 1' ` +
		`-H "X-Content-SHA256: $(sha256sum /tmp/x | cut -c1-64)" -H 'X-Episode-Id: ` + id + "' "
	for what, request := range map[string]string{
		"path and header":  "-H 'X-Lab-Host: lab-02' " + url + "/v1/episodes/lab-02/" + id + ".tar.zst",
		"the path":         "-H 'X-Lab-Host: lab-01' " + url + "/v1/episodes/lab-02/" + id + ".tar.zst",
		"the header":       "-H 'X-Lab-Host: lab-02' " + url + "/v1/episodes/lab-01/" + id + ".tar.zst",
		"another's doctor": url + "/v1/host-health/lab-02",
	} {
		if out := h.Run(put + request); !strings.HasSuffix(out, "\n403") || !strings.Contains(out, "other-host") {
			f.t.Errorf("another host's name in %s: %s", what, out)
		}
	}
	if left := f.rx.Run("find /var/lib/cis490 -name 'lab-02*' -o -name '*" + id + "*'"); left != "" {
		f.t.Errorf("stored under another host's name: %s", left)
	}
}

// TestIncident16_Cloned: a machine's disk is copied with its credentials. Both machines
// report under one name, and an alert names it.
func TestIncident16_Cloned(t *testing.T) {
	inLane(t)
	f := newSite(t, "", "lab-01", "copy")
	f.rx.Run("cd /root && ./cis490 install receiver")
	setTimer(f.rx, "cis490-fleet-health", checkEvery)
	h, other := f.hosts[0], f.hosts[1]
	f.hosts = []*lab.Host{h}
	writeBusyConfig(h, time.Second, authorityURL)
	f.join(h)
	f.waitAccepted(h, 1, 30*time.Second)
	other.Push(lab.Binary(t), "/usr/local/bin/cis490")
	for _, file := range []string{
		"/etc/cis490/lab-host.toml", "/etc/cis490/certs/lab-host.pem", "/etc/cis490/certs/ca.crt",
		"/etc/cis490/certs/bearer",
	} {
		other.Write(file, h.Read(file), 0o600)
	}
	other.Run("mkdir -p /var/lib/cis490/data")
	for range 2 { // alternate
		h.Run("cis490 ship --ping")
		other.Run("cis490 ship --ping")
		time.Sleep(1100 * time.Millisecond)
	}
	a := f.waitAlert(time.Minute, "lab-01", "cloned", "two-machines")
	t.Logf("%s; fix: %s", a.Reason, a.Fix)
}
