//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestIncident18_NetworkGone: the network between host and receiver goes away in
// mid-upload, for so long that the host's tries have become as rare as they get.
// Within a minute of its return the shipping goes on; nothing is lost, nothing is
// there twice.
func TestIncident18_NetworkGone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	// A transfer without a byte for a minute is given up; here after 5 s, so that an
	// hour of tries fits into two minutes.
	set(h, "/etc/cis490/lab-host.toml", map[string]string{"idle_timeout": "5s", "bandwidth_per_second": "4 MiB"})
	quiet(h)
	supply(h, 3, 24<<10)
	h.Eventually(30*time.Second, "an upload is under way", "test $(ls "+spool+"/outbox/*.tar.zst | wc -l) -gt 0")
	f.rx.Eventually(30*time.Second, "a part of it has come", "find /var/lib/cis490 -path '*staged*' -type f -size +100k | grep .")
	f.rx.CutOff()
	began := time.Now()
	h.Eventually(time.Minute, "the shipper notices", "journalctl -u cis490-shipper | grep -q 'it waits'")
	detected := time.Since(began)
	h.Eventually(4*time.Minute, "six tries", "test $(journalctl -u cis490-shipper | grep -c 'ping not answered') -ge 6")
	t.Logf("away for %s; the last waits:\n%s", time.Since(began).Round(time.Second), h.Run("journalctl --no-pager -o cat -u cis490-shipper | grep 'ping not answered' | tail -3"))
	kept := strings.Count(f.rx.Read("/var/lib/cis490/index.jsonl"), "\n")
	f.rx.Reconnect()
	back := time.Now()
	f.rx.Eventually(time.Minute, "an episode within a minute", fmt.Sprintf("test $(wc -l </var/lib/cis490/index.jsonl) -gt %d", kept))
	measured(t, detected, time.Since(back))
	emptied(h, 2*time.Minute)
	f.equal(h)
	f.nothingLostNothingTwice()
}
