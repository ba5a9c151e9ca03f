//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

const (
	powerCuts = 3
	perHost   = 600
)

// TestIncident11_PowerCutReceiver cuts the receiver's power three times during uploads. The
// receiver is a virtual machine that loses its page cache and its disk's write cache. Each
// time it recovers by itself with every episode that a host has a receipt for. At the end
// each episode is stored once.
func TestIncident11_PowerCutReceiver(t *testing.T) {
	inLane(t)
	lab.NeedGuests(t)
	l := lab.New(t)
	rx := l.BootGuest("collector", 0)
	rx.Push(lab.Binary(t), "/root/cis490")
	rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	sums := func() map[string]string { return sumsOf(rx) }
	if o := chosenStore(t, l, rx); o != nil {
		sums = o.sums
	}
	hosts := l.BootAll("lab-01", "lab-02")
	for i, h := range hosts {
		h.Run("echo " + rx.Addr + " collector.lab collector >>/etc/hosts")
		h.Run("cd /root\n" + rx.Run("cis490 token create "+h.Name))
		stopRecording(h)
		addEpisodes(h, perHost, []int{2, 100}[i]) // KiB
	}
	var healed time.Duration
	for range powerCuts {
		before := len(storedRows(t, rx))
		deadline := time.Now().Add(5 * time.Minute)
		for len(storedRows(t, rx)) < before+100 {
			if time.Now().After(deadline) {
				t.Fatalf("no uploads: %s", hosts[0].Journal("cis490-shipper"))
			}
			time.Sleep(time.Second)
		}
		time.Sleep(rand.N(3 * time.Second))
		rx.CutPower()
		for _, h := range hosts { // else a host could send a lost episode again before the check
			h.CutOff()
		}
		rx.PowerOn()
		began := time.Now()
		for rx.Try("curl -fsk https://localhost:8443/readyz").Code != 0 {
			if time.Since(began) > 3*time.Minute {
				t.Fatalf("not ready after its power was cut:\n%s", rx.Run("journalctl --no-pager -u cis490-receiver | tail -30"))
			}
			time.Sleep(time.Second)
		}
		healed = max(healed, time.Since(began))
		rows := storedRows(t, rx)
		t.Logf("power cut: %d receipts, %d rows, %s repaired", countReceipts(t, hosts, rows), len(rows),
			rx.Run(`grep -c '"repaired":true' /var/lib/cis490/index.jsonl || true`))
		checkFiles(t, sums(), rows)
		if t.Failed() {
			t.FailNow() // the hosts would send lost episodes again
		}
		for _, h := range hosts {
			h.Reconnect()
		}
	}
	for _, h := range hosts {
		t.Logf("%s: all shipped %s later", h.Name, waitDrained(h, 10*time.Minute))
		if r := h.Try("sudo -u cis490 cis490 reconcile"); r.Code != 0 || !strings.HasPrefix(r.Out, "the receiver has all ") {
			t.Errorf("%s: reconcile: %s", h.Name, r)
		}
	}
	reportTimes(t, 0, healed) // from the boot on; no alert reports a power cut
	rows := storedRows(t, rx)
	if n := countReceipts(t, hosts, rows); n != len(rows) || n < len(hosts)*perHost {
		t.Errorf("%d receipts, %d rows", n, len(rows))
	}
	if files := checkFiles(t, sums(), rows); files != len(rows) {
		t.Errorf("%d files for %d rows", files, len(rows))
	}
}

// checkFiles checks that each row has its file with the row's digest, and returns the
// number of files.
func checkFiles(t *testing.T, sums map[string]string, rows map[string]row) int {
	t.Helper()
	for _, r := range rows {
		if got := sums[fmt.Sprintf("./%s/%s.tar.zst", r.Host, r.Episode)]; got != r.Digest {
			t.Errorf("row %v: its file has digest %q", r, got)
		}
	}
	return len(sums)
}

// storedRows returns the receiver's rows by episode, and fails the test for duplicates.
func storedRows(t *testing.T, rx *lab.Guest) map[string]row {
	t.Helper()
	rows := map[string]row{}
	for line := range strings.Lines(rx.Run("cat /var/lib/cis490/index.jsonl")) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			continue // being written
		}
		if first, twice := rows[r.Episode]; twice {
			t.Errorf("episode %s is in the index twice: %v and %v", r.Episode, first, r)
		}
		rows[r.Episode] = r
	}
	return rows
}

// countReceipts counts the hosts' receipts, and fails the test for each without a row.
func countReceipts(t *testing.T, hosts []*lab.Host, rows map[string]row) (n int) {
	t.Helper()
	for _, h := range hosts {
		for line := range strings.Lines(h.Run("cat " + spool + "/shipped/receipts.jsonl")) {
			var r row
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				continue // being written
			}
			if n++; rows[r.Episode].Digest != r.Digest {
				t.Errorf("%s has a receipt for %s, the receiver has no such row", h.Name, r.Episode)
			}
		}
	}
	return n
}
