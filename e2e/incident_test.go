//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// An incident is a failure that has happened to such a fleet. Each has a scenario
// in a file of its own, incident_NN_*_test.go, and a row in docs/incidents.md,
// whose times it measures: from the fault until something says so, and from the
// end of the fault (or the fault itself, where the product ends it) until all is
// well again without a hand on any host. Zero is "nothing to detect" or "to heal".
func measured(t *testing.T, detected, healed time.Duration) {
	t.Helper()
	t.Logf("incident: detected after %s, healed after %s", detected.Round(100*time.Millisecond), healed.Round(100*time.Millisecond))
}

// waitOver waits until an alert is not open any more, and its last row says so. The
// host may have others: it is what the scenario made of it.
func (f *fleet) waitOver(limit time.Duration, host, symptom string) {
	f.t.Helper()
	f.rx.Eventually(limit, "the end of "+symptom+" of "+host, fmt.Sprintf(
		`cis490 alerts list --json | jq -se 'all(.[0][]; .host != "%s" or .symptom != "%s")'`, host, symptom))
	last := ""
	for _, a := range f.rows() {
		if a.Host == host && a.Symptom == symptom {
			last = a.State
		}
	}
	if last != "resolved" {
		f.t.Errorf("%s: the last row of %s says %q", host, symptom, last)
	}
}
