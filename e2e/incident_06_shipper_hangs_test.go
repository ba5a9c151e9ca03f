//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// hang stops the shipper two seconds after each of its starts, so that it has told
// the receiver of itself and hangs in the midst of an upload.
const hang = `systemd-run --quiet --unit=hang sh -c '
last=0
while sleep 0.2; do
	pid=$(systemctl show -p MainPID --value cis490-shipper)
	test $pid != 0 -a $pid != $last && systemctl is-active --quiet cis490-shipper || continue
	sleep 2; kill -STOP $pid; last=$pid
done'`

// TestIncident06_ShipperHangs: the shipper hung while systemd called it active, the
// backlog grew, and nobody saw. Now a watchdog that progress feeds restarts it, and
// it goes on; where it hangs again and again, the alert says that the backlog grows.
// The watchdog's three minutes are twenty seconds here.
func TestIncident06_ShipperHangs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	h.Write("/etc/systemd/system/cis490-shipper.service.d/lab.conf", "[Service]\nWatchdogSec=20\nRestartSec=1\n", 0o644)
	h.Run("systemctl daemon-reload")
	set(h, "/etc/cis490/lab-host.toml", map[string]string{"bandwidth_per_second": "256 KiB"})
	quiet(h)
	f.watchedAt(70 * time.Second)

	restarts := func() string { return h.Run("systemctl show -p NRestarts --value cis490-shipper") }
	if n := restarts(); n != "0" {
		t.Fatalf("%s restarts of a shipper that is well", n)
	}
	supply(h, 3, 1<<10)
	h.Eventually(time.Minute, "an upload is under way", "ls "+spool+"/outbox/*.tar.zst")
	hung := time.Now()
	h.Run("kill -STOP $(systemctl show -p MainPID --value cis490-shipper)")
	if state := h.Run("systemctl is-active cis490-shipper"); state != "active" {
		t.Errorf("systemd calls a shipper that hangs %s, want active as it did then", state)
	}
	h.Eventually(time.Minute, "the watchdog notices", "journalctl -u cis490-shipper | grep -q 'Watchdog timeout'")
	detected := time.Since(hung)
	emptied(h, 2*time.Minute) // what was being packed goes last for a minute: it may be what hung
	healed := time.Since(hung) - detected
	if n := restarts(); n != "1" {
		t.Errorf("%s restarts, want 1", n)
	}

	h.Run(hang)
	began := time.Now()
	symptom := `cis490 alerts list --json | jq -se 'any(.[0][]; .host == "lab-01" and .symptom == "backlog-growing")'`
	for f.rx.Try(symptom).Code != 0 {
		if time.Since(began) > 4*time.Minute {
			t.Fatalf("nobody says that the backlog grows: %s\n%s", f.rx.Run("cis490 alerts list"), h.Journal("cis490-shipper"))
		}
		supply(h, 3, 1<<10)
		time.Sleep(10 * time.Second)
	}
	a := f.waitOpen(time.Minute, "lab-01", "backlog-growing", "backlog")
	t.Logf("hung again and again: after %s: %s; %s", time.Since(began).Round(time.Second), a.Reason, a.Fix)
	if !strings.Contains(a.Reason, "shipping hangs") || !strings.HasPrefix(a.Fix, "on lab-01: ") {
		t.Errorf("the alert does not say what and where: %+v", a)
	}
	h.Run("systemctl stop hang")
	h.Run("sed -i 's/^bandwidth_per_second.*/bandwidth_per_second = \"0 B\"/' /etc/cis490/lab-host.toml")
	emptied(h, 4*time.Minute)
	f.equal(h)
	f.nothingLostNothingTwice()
	f.waitOver(time.Minute, "lab-01", "backlog-growing")
	measured(t, detected, healed)
}
