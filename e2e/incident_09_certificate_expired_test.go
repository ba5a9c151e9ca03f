//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// TestIncident09_CertificateExpired: a host is switched off until long after its
// certificate's end. When it is switched on, its first contact is refused; that
// leaves a knock with the reason, which explains its silence. Then it gets a new
// certificate by its old key, and ships: no token, no person.
func TestIncident09_CertificateExpired(t *testing.T) {
	t.Parallel()
	// A month is a minute here. The next look for a certificate comes 25 s after
	// power-on, not within 90 s, so that the refused contact can be seen.
	f := site(t, "[authority]\ncert_life = \"1m\"\n[fleet]\nsilent_after = \"30s\"\n", "lab-01")
	f.rx.Run("cd /root && ./cis490 install receiver")
	every(f.rx, "cis490-fleet-health", 5*time.Second)
	h := f.hosts[0]
	busy(h, time.Second, authorityURL)
	h.Write("/etc/systemd/system/cis490-cert-fetch.timer.d/lab.conf", "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=25s\nOnUnitActiveSec=5s\nRandomizedDelaySec=0\n", 0o644)
	f.join(h)
	f.waitAccepted(h, 2, time.Minute)
	const tokens = "wc -l </var/lib/cis490-authority/tokens.jsonl"
	issued := f.rx.Run(tokens)

	h.Crash()
	time.Sleep(80 * time.Second)
	accepted, renewed := f.accepted(h), f.renewals(h)
	h.Start()
	began := time.Now()
	f.rx.Eventually(time.Minute, "a knock with the reason", `jq -e '.hosts["lab-01"].knocks | any(.kind == "certificate-expired")' /var/lib/cis490/contacts.json`)
	a := f.waitOpen(time.Minute, "lab-01", "silent", "certificate-expired")
	detected := time.Since(began)
	t.Logf("%s; fix: %s", a.Reason, a.Fix)

	f.waitAccepted(h, accepted+2, 90*time.Second)
	f.waitWell(time.Minute, "lab-01")
	measured(t, detected, time.Since(began))
	if n := f.renewals(h); n <= renewed {
		t.Errorf("%d renewals by its key before it was off, %d after", renewed, n)
	}
	if keys := f.rx.Run("jq -r 'select(.host == \"lab-01\").key' /var/lib/cis490-authority/issued.jsonl | sort -u | wc -l"); keys != "1" {
		t.Errorf("its certificates are for %s keys, want the old one", keys)
	}
	if now := f.rx.Run(tokens); now != issued {
		t.Errorf("tokens.jsonl had %s rows, has %s", issued, now)
	}
	f.rest()
	f.nothingLostNothingTwice()
}
