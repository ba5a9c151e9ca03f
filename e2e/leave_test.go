//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// TestLeaving: a machine that is shut down, or goes to sleep, says so first, and
// its silence alarms nobody; a restart of the shipper alone says nothing. One
// whose power is cut says nothing either.
func TestLeaving(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	quiet(h)
	const contact = `jq -e '.hosts["lab-01"] | `
	said := func(what, filter string) {
		t.Helper()
		f.rx.Eventually(time.Minute, what, contact+filter+`' /var/lib/cis490/contacts.json`)
	}
	said("it is heard", ".leaving != true and .boots[0].id")

	h.Run("systemctl restart cis490-shipper")
	said("a restart is no leaving", ".leaving_at == null and .back_at == null")
	// Both sides of a sleep, as logind announces it, until the shipper listens.
	const sleep = "busctl emit /org/freedesktop/login1 org.freedesktop.login1.Manager PrepareForSleep b "
	h.Eventually(time.Minute, "it hears of sleep", sleep+"true; sleep 1; journalctl -u cis490-shipper | grep -q 'goes to sleep'")
	said("it says that it goes to sleep", ".leaving")
	h.Run(sleep + "false")
	said("it is back", ".leaving != true and .back_at")

	h.PowerOff()
	said("it says that it is shut down", ".leaving")
	h.Start()
	said("it is back under another boot id", ".leaving != true and (.boots | length == 2)")

	h.Crash()
	time.Sleep(15 * time.Second) // three pings
	said("a power cut says nothing", ".leaving != true")
}
