//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestRefusedHostIsExplained: a host whose commit is blocked gets 412, still sends its
// health report, and its alert has the reason. A real Alertmanager and the journal show
// the alert and its end. Text from hosts is never interpreted.
func TestRefusedHostIsExplained(t *testing.T) {
	inLane(t)
	if _, err := exec.LookPath("prometheus-alertmanager"); err != nil {
		t.Skip("needs Debian's prometheus-alertmanager")
	}
	f := newFleet(t, "lab-01", "lab-evil")
	manager := f.Command("prometheus-alertmanager", "--web.listen-address=:9093", "--cluster.listen-address=", "--storage.path="+t.TempDir(),
		"--config.file="+writeTemp(t, "route:\n  receiver: none\nreceivers:\n- name: none\n"))
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Process.Kill(); _ = manager.Wait() })
	setConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{"alertmanager_url": "http://switch.lab:9093"})
	h, evil := f.hosts[0], f.Host("lab-evil")
	f.speedUp(h)
	f.speedUp(evil)
	f.watchFleet()
	f.waitAccepted(h, 1, 2*time.Minute)
	f.waitAccepted(evil, 1, 2*time.Minute)

	// A stolen machine might send this as its health report.
	const nasty = "'; $(touch /pwned) \x1b[31m<script>alert(1)</script>\nhost=x symptom=silent state=firing"
	body, err := json.Marshal(map[string]any{
		"schema": "cis490.doctor/1", "host": nasty, "role": nasty, "version": nasty,
		"checks": []map[string]any{{"id": nasty, "title": nasty, "status": "fail", "detail": nasty, "fix": nasty, "hard": true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	evil.Run("systemctl stop cis490-shipper cis490-orchestrator cis490-doctor-check.timer")
	f.putSnapshot(evil, string(body))

	commit := strings.TrimSpace(h.Run("cis490 version --json | jq -r .commit"))
	f.rx.Run(`sed -i 's/^# blocked_commits = .*/blocked_commits = ["` + commit + `"]/' /etc/cis490/receiver.toml`)
	a := f.waitAlert(5*time.Minute, "lab-01", "silent", "gated")
	t.Logf("%s; %s", a.Reason, a.Fix)
	f.rx.Run("rm -f /tmp/before && cp -a /var/lib/cis490/host-health/lab-01.json /tmp/before")
	h.Run("systemctl start cis490-doctor-check")
	f.rx.Eventually(time.Minute, "a new health report of a refused host", "test /var/lib/cis490/host-health/lab-01.json -nt /tmp/before")
	show := f.rx.Run("cis490 host show lab-01")
	t.Log(show)
	for _, part := range []string{"lab-01 silent", "next         it records nothing new", "without a time limit"} {
		if !strings.Contains(show, part) {
			t.Errorf("host show has no %q", part)
		}
	}
	active := func() string {
		out, err := f.Command("curl", "-fsS", "http://127.0.0.1:9093/api/v2/alerts?active=true").Output()
		if err != nil {
			t.Fatalf("alertmanager: %v", err)
		}
		return string(out)
	}
	if got := active(); !strings.Contains(got, `"host":"lab-01"`) || !strings.Contains(got, "cis490_silent") {
		t.Errorf("alertmanager does not show the alert: %s", got)
	}

	b := f.waitAlert(5*time.Minute, "lab-evil", "silent", "failing-check")
	for where, text := range map[string]string{
		"alerts list": f.rx.Run("cis490 alerts list; cis490 alerts list --json"), "host show": f.rx.Run("cis490 host show lab-evil"),
		"status": f.rx.Run("cis490 status"), "alerts.jsonl": f.rx.Read("/var/lib/cis490/alerts.jsonl"),
		"journal": f.rx.Run("journalctl -t cis490 --no-pager -o cat -g fleet-alert"), "alertmanager": active(),
		"metrics": f.rx.Run(`curl -fsS --cacert /var/lib/cis490-authority/trust.pem -H "Authorization: Bearer $(cat /etc/cis490/operator)" ` +
			`https://collector.lab:8443/metrics`),
	} {
		if strings.ContainsAny(text, "\x1b") || strings.Contains(text, "\nhost=x") {
			t.Errorf("%s has unsanitized text of a host:\n%q", where, text)
		}
	}
	if strings.Contains(b.Fix, "touch") {
		t.Errorf("the fix has text of a host: %s", b.Fix)
	}
	f.rx.Run("test ! -e /pwned")

	f.rx.Run(`sed -i 's/^blocked_commits = .*/# blocked_commits = []/' /etc/cis490/receiver.toml`)
	f.waitAllResolved(3*time.Minute, "lab-01")
	if got := active(); strings.Contains(got, `"host":"lab-01"`) {
		t.Errorf("alertmanager still shows the alert: %s", got)
	}
	journal := f.rx.Run("journalctl -p warning..warning -t cis490 --no-pager -o cat -g 'cis490 fleet-alert host=lab-01 symptom=silent'")
	if !strings.Contains(journal, "state=firing") || !strings.Contains(journal, "state=resolved") {
		t.Errorf("the journal's lines: %s", journal)
	}
	evil.Run("systemctl start cis490-shipper")
	f.drain()
	f.checkEachStoredOnce()
}

// putSnapshot sends a health report with the host's credentials.
func (f *fleet) putSnapshot(h *lab.Host, body string) {
	f.t.Helper()
	h.Write("/root/body", body, 0o600)
	h.Run(`curl -fsS --cacert /etc/cis490/certs/ca.crt --cert /etc/cis490/certs/lab-host.pem ` +
		`-H "Authorization: Bearer $(cat /etc/cis490/certs/bearer)" ` +
		`-T /root/body https://collector.lab:8443/v1/host-health/` + h.Name)
}

// drain stops recording and waits until all recorded episodes are shipped.
func (f *fleet) drain() {
	f.t.Helper()
	for _, h := range f.hosts {
		h.Run("systemctl stop cis490-orchestrator")
		h.Eventually(2*time.Minute, "an empty outbox",
			`test -z "$(ls /var/lib/cis490/data/outbox/* /var/lib/cis490/data/episodes/*/done.marker 2>/dev/null)"`)
	}
}
