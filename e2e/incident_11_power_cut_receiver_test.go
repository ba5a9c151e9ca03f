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

// TestIncident11_PowerCutReceiver: the receiver's power is cut three times in the midst of uploads.
// It is a virtual machine, whose page cache and the write cache of whose disk are
// lost. Each time it comes back by itself with every episode that a host holds a
// receipt for; in the end all are there, and none twice.
func TestIncident11_PowerCutReceiver(t *testing.T) {
	t.Parallel()
	lab.NeedGuests(t)
	l := lab.New(t)
	rx := l.BootGuest("collector", 0)
	rx.Push(lab.Binary(t), "/root/cis490")
	rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	hosts := l.BootAll("lab-01", "lab-02")
	for i, h := range hosts {
		h.Run("echo " + rx.Addr + " collector.lab collector >>/etc/hosts")
		h.Run("cd /root\n" + rx.Run("cis490 token create "+h.Name))
		quiet(h)
		supply(h, perHost, []int{2, 100}[i]) // of the journal, and staged
	}
	var healed time.Duration
	for range powerCuts {
		before := len(stored(t, rx))
		deadline := time.Now().Add(5 * time.Minute)
		for len(stored(t, rx)) < before+100 {
			if time.Now().After(deadline) {
				t.Fatalf("no uploads under way: %s", hosts[0].Journal("cis490-shipper"))
			}
			time.Sleep(time.Second)
		}
		time.Sleep(rand.N(3 * time.Second))
		rx.CutPower()
		for _, h := range hosts { // or one that was lost might be sent again before it is looked for
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
		rows := stored(t, rx)
		t.Logf("power cut: %d receipts, %d rows, %s repaired", acknowledged(t, hosts, rows), len(rows), rx.Run(`grep -c '"repaired":true' /var/lib/cis490/index.jsonl || true`))
		haveBodies(t, rx, rows)
		if t.Failed() {
			t.FailNow() // what is lost is not found again
		}
		for _, h := range hosts {
			h.Reconnect()
		}
	}
	for _, h := range hosts {
		t.Logf("%s: all shipped %s later", h.Name, emptied(h, 10*time.Minute))
		if r := h.Try("sudo -u cis490 cis490 reconcile"); r.Code != 0 || !strings.HasPrefix(r.Out, "the receiver has all ") {
			t.Errorf("%s: reconcile: %s", h.Name, r)
		}
	}
	measured(t, 0, healed) // from the boot on; what was cut is found by looking, not by an alarm
	rows := stored(t, rx)
	if n := acknowledged(t, hosts, rows); n != len(rows) || n < len(hosts)*perHost {
		t.Errorf("%d receipts, %d rows", n, len(rows))
	}
	if files := haveBodies(t, rx, rows); files != len(rows) {
		t.Errorf("%d files for %d rows", files, len(rows))
	}
}

// haveBodies checks that each row has its file with the row's digest, and counts the
// files.
func haveBodies(t *testing.T, rx *lab.Guest, rows map[string]row) int {
	t.Helper()
	sums := sumsOf(rx)
	for _, r := range rows {
		if got := sums[fmt.Sprintf("./%s/%s.tar.zst", r.Host, r.Episode)]; got != r.Digest {
			t.Errorf("row without its file: %v: %q", r, got)
		}
	}
	return len(sums)
}

// stored returns the receiver's rows by episode; one that is there twice is told.
func stored(t *testing.T, rx *lab.Guest) map[string]row {
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

// acknowledged counts the hosts' receipts; one without its row is told.
func acknowledged(t *testing.T, hosts []*lab.Host, rows map[string]row) (n int) {
	t.Helper()
	for _, h := range hosts {
		for line := range strings.Lines(h.Run("cat " + spool + "/shipped/receipts.jsonl")) {
			var r row
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				continue // being written
			}
			if n++; rows[r.Episode].Digest != r.Digest {
				t.Errorf("%s holds a receipt for %s that the receiver does not know", h.Name, r.Episode)
			}
		}
	}
	return n
}
