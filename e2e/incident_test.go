//go:build e2e

package e2e

import (
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
