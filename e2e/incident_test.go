//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// reportTimes logs the times of docs/incidents.md. An incident is a failure that has
// happened to such a fleet; its scenario is in incident_NN_*_test.go. Detected is the time
// from the fault to the first report. Healed is the time from the end of the fault, or
// from the fault if the product ends it, until all is well without action on any host.
// Zero means nothing to detect or to heal.
func reportTimes(t *testing.T, detected, healed time.Duration) {
	t.Helper()
	t.Logf("incident: detected after %s, healed after %s", detected.Round(100*time.Millisecond), healed.Round(100*time.Millisecond))
}

// waitResolved waits until an alert is no longer open, and checks that its last row is
// resolved. The host may have other alerts.
func (f *fleet) waitResolved(limit time.Duration, host, symptom string) {
	f.t.Helper()
	f.rx.Eventually(limit, symptom+" of "+host+" is resolved", fmt.Sprintf(
		`cis490 alerts list --json | jq -se 'all(.[0][]; .host != "%s" or .symptom != "%s")'`, host, symptom))
	last := ""
	for _, a := range f.rows() {
		if a.Host == host && a.Symptom == symptom {
			last = a.State
		}
	}
	if last != "resolved" {
		f.t.Errorf("%s: the last row of %s has state %q", host, symptom, last)
	}
}
