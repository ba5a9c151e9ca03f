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

// perCut is how many episodes each host gets before each cut.
const perCut = 200

// TestIncident11_PowerCutReceiver cuts the receiver's power six times during uploads. What its
// ext4 had not made durable is lost. Each time it recovers by itself with every episode that a
// host has a receipt for. At the end each episode is stored once.
func TestIncident11_PowerCutReceiver(t *testing.T) {
	inLane(t)
	l := lab.New(t)
	rx := l.Boot("collector", lab.WithDisk("8G"))
	cutPower(t, l, rx, rx.Addr, 6, rx.Start)
}

// TestGuest_PowerCutReceiver is the same with a virtual machine, which also loses its disk's
// write cache.
func TestGuest_PowerCutReceiver(t *testing.T) {
	inLane(t)
	lab.NeedGuests(t)
	l := lab.New(t)
	rx := l.BootGuest("collector", 0)
	cutPower(t, l, rx, rx.Addr, 3, rx.PowerOn)
}

// A cuttable machine can lose its power.
type cuttable interface {
	machine
	Try(command string) lab.Result
	Push(local, path string)
	CutPower()
}

// cutPower ships episodes of two hosts to a receiver, and cuts its power some times.
func cutPower(t *testing.T, l *lab.Lab, rx cuttable, addr string, cuts int, powerOn func()) {
	t.Helper()
	rx.Push(lab.Binary(t), "/root/cis490")
	rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	sums := func() map[string]string { return sumsOf(rx) }
	if o := chosenStore(t, l, rx); o != nil {
		sums = o.sums
	}
	hosts := l.BootAll("lab-01", "lab-02")
	for _, h := range hosts {
		h.Run("echo " + addr + " collector.lab collector >>/etc/hosts")
		h.Run("cd /root\n" + rx.Run("cis490 token create "+h.Name))
		stopRecording(h)
	}
	var healed time.Duration
	for range cuts {
		for i, h := range hosts {
			addEpisodes(h, perCut, []int{2, 100}[i]) // KiB
		}
		before := len(storedRows(t, rx))
		rx.Eventually(5*time.Minute, "uploads", fmt.Sprintf("test $(wc -l </var/lib/cis490/index.jsonl) -ge %d", before+20+rand.N(perCut)))
		rx.CutPower()
		for _, h := range hosts { // else a host could send a lost episode again before the check
			h.CutOff()
		}
		powerOn()
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
	if n := countReceipts(t, hosts, rows); n != len(rows) || n < len(hosts)*perCut*cuts {
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
func storedRows(t *testing.T, rx machine) map[string]row {
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
