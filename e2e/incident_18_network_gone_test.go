//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestIncident18_NetworkGone: the network between host and receiver fails during an
// upload, until the host retries at its longest interval. Within a minute of its return,
// shipping resumes. Each episode is stored once.
func TestIncident18_NetworkGone(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	// A transfer without progress is aborted after 5 s here instead of a minute, so that an
	// hour of retries takes two minutes.
	setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"idle_timeout": "5s", "bandwidth_per_second": "4 MiB"})
	stopRecording(h)
	addEpisodes(h, 3, 24<<10)
	h.Eventually(30*time.Second, "an upload is under way", "test $(ls "+spool+"/outbox/*.tar.zst | wc -l) -gt 0")
	// On an object store, the file of an upload in progress has no name.
	f.rx.Eventually(30*time.Second, "a part has arrived", "find /var/lib/cis490 -path '*staged*' -type f -size +100k | grep . || "+
		"find /proc/$(systemctl show -p MainPID --value cis490-receiver)/fd -lname '*staged*(deleted)' "+
		"-exec stat -L -c %s {} + | awk '$1 > 100000' | grep .")
	f.rx.CutOff()
	began := time.Now()
	h.Eventually(time.Minute, "the shipper notices", "journalctl -u cis490-shipper | grep -q 'it waits'")
	detected := time.Since(began)
	h.Eventually(4*time.Minute, "six tries", "test $(journalctl -u cis490-shipper | grep -c 'ping not answered') -ge 6")
	t.Logf("away for %s; the last waits:\n%s", time.Since(began).Round(time.Second),
		h.Run("journalctl --no-pager -o cat -u cis490-shipper | grep 'ping not answered' | tail -3"))
	kept := len(f.index())
	f.rx.Reconnect()
	back := time.Now()
	f.rx.Eventually(time.Minute, "an episode within a minute", fmt.Sprintf("test $(%s | wc -l) -gt %d", f.state("index.jsonl"), kept))
	reportTimes(t, detected, time.Since(back))
	waitDrained(h, 2*time.Minute)
	f.checkReconciled(h)
	f.checkEachStoredOnce()
}
