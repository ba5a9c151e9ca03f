//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// TestIncident09_CertificateExpired: a host is off until long after its certificate has
// expired. Its first request after power-on is rejected; the receiver records the reason,
// which explains the host's silence. Then the host renews its certificate by its old key
// and ships, without a token or a person.
func TestIncident09_CertificateExpired(t *testing.T) {
	inLane(t)
	// A certificate is valid for a minute, not a month. cert-fetch runs 25 s after power-on,
	// so that the scenario can see the rejected request before.
	f := newSite(t, "[authority]\ncert_life = \"1m\"\n[fleet]\nsilent_after = \"30s\"\n", "lab-01")
	f.rx.Run("cd /root && ./cis490 install receiver")
	setTimer(f.rx, "cis490-fleet-health", 5*time.Second)
	h := f.hosts[0]
	writeBusyConfig(h, time.Second, authorityURL)
	h.Write("/etc/systemd/system/cis490-cert-fetch.timer.d/lab.conf",
		"[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=25s\nOnUnitActiveSec=5s\nRandomizedDelaySec=0\n", 0o644)
	f.join(h)
	f.waitAccepted(h, 2, time.Minute)
	const tokens = "wc -l </var/lib/cis490-authority/tokens.jsonl"
	issued := f.rx.Run(tokens)

	h.Crash()
	time.Sleep(80 * time.Second)
	accepted, renewed := f.accepted(h), f.renewals(h)
	h.Start()
	began := time.Now()
	f.rx.Eventually(time.Minute, "a rejected request with the reason", `jq -e '.hosts["lab-01"].knocks | `+
		`any(.kind == "certificate-expired")' /var/lib/cis490/contacts.json`)
	a := f.waitAlert(time.Minute, "lab-01", "silent", "certificate-expired")
	detected := time.Since(began)
	t.Logf("%s; fix: %s", a.Reason, a.Fix)

	f.waitAccepted(h, accepted+2, 90*time.Second)
	f.waitAllResolved(time.Minute, "lab-01")
	reportTimes(t, detected, time.Since(began))
	if n := f.renewals(h); n <= renewed {
		t.Errorf("%d renewals by key before power-off, %d after", renewed, n)
	}
	if keys := f.rx.Run("jq -r 'select(.host == \"lab-01\").key' /var/lib/cis490-authority/issued.jsonl | sort -u | wc -l"); keys != "1" {
		t.Errorf("the host's certificates are for %s keys, want 1", keys)
	}
	if now := f.rx.Run(tokens); now != issued {
		t.Errorf("tokens.jsonl had %s rows before, %s after", issued, now)
	}
	f.stopAndDrain()
	f.checkEachStoredOnce()
}
