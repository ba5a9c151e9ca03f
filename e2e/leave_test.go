//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// TestLeaving: a machine reports a shutdown or a suspend before it leaves, so its silence
// raises no alarm. A restart of the shipper alone, or a power cut, reports nothing.
func TestLeaving(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	stopRecording(h)
	const contact = `jq -e '.hosts["lab-01"] | `
	waitContact := func(what, filter string) {
		t.Helper()
		f.rx.Eventually(time.Minute, what, contact+filter+`' /var/lib/cis490/contacts.json`)
	}
	waitContact("the host reports", ".leaving != true and .boots[0].id")

	h.Run("systemctl restart cis490-shipper")
	waitContact("a restart does not report leaving", ".leaving_at == null and .back_at == null")
	// Suspend and resume, with logind's signals, until the shipper listens.
	const sleep = "busctl emit /org/freedesktop/login1 org.freedesktop.login1.Manager PrepareForSleep b "
	h.Eventually(time.Minute, "the shipper gets the signal", sleep+"true; sleep 1; journalctl -u cis490-shipper | grep -q 'goes to sleep'")
	waitContact("the host reports the suspend", ".leaving")
	h.Run(sleep + "false")
	waitContact("the host is back", ".leaving != true and .back_at")

	h.PowerOff()
	waitContact("the host reports the shutdown", ".leaving")
	h.Start()
	waitContact("the host is back with another boot id", ".leaving != true and (.boots | length == 2)")

	h.Crash()
	time.Sleep(15 * time.Second) // three pings
	waitContact("a power cut does not report leaving", ".leaving != true")
}
