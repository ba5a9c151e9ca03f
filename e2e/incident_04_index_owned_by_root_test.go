//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestIncident04_IndexOwnedByRoot: a tool run as root rewrote the receiver's index, which
// then belonged to root. Tarballs were stored, their rows failed, the retries were answered
// 200, and 140 rows were missing before a person noticed. Now no PUT succeeds before its
// row is durable, the alert names the owner and the command, and the host's retries repair
// the index.
func TestIncident04_IndexOwnedByRoot(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.watchFleet()
	stopRecording(h)
	addEpisodes(h, 20, 10)
	waitDrained(h, time.Minute)

	// Commands run as root leave no file of root's: each file has one writing process.
	f.rx.Run("cd /root; for c in status doctor 'doctor --fix' fleet-check 'alerts list' 'host list' 'episode list' 'release list' 'backup " +
		"--to /root/b.tar.gz' serve; do timeout 20 cis490 $c; done; true")
	if owned := f.rx.Run("find /var/lib/cis490 -name '*.jsonl' ! -user cis490"); owned != "" {
		t.Errorf("files that commands as root changed to root's:\n%s", owned)
	}

	before := len(f.index())
	since := strings.TrimSpace(f.rx.Run("sleep 1; date '+%F %T'"))
	broken := time.Now()
	f.rx.Run("cd /var/lib/cis490 && cat index.jsonl >copy && mv copy index.jsonl")
	addEpisodes(h, 1, 10)
	// The host sends its one episode three times.
	puts := "journalctl -u cis490-receiver --no-pager -o cat --since '" + since + "' | grep 'method=PUT path=/v1/episodes/'"
	f.rx.Eventually(time.Minute, "PUTs are answered 5xx, also the retries", "test $("+puts+" | grep -c ' status=5') -ge 3")
	if taken := f.rx.Try(puts + " | grep ' status=2'").Out; taken != "" {
		t.Errorf("acknowledged without a row:\n%s", taken)
	}
	on, dir := f.tarballs()
	tarball := on.Run("find " + dir + " -name '*.tar.zst' -printf '%T@ %f\n' | sort -n | tail -1 | cut -d' ' -f2")
	episode, _, _ := strings.Cut(tarball, ".")
	if r := f.rx.Try("grep " + episode + " /var/lib/cis490/index.jsonl"); r.Out != "" {
		t.Errorf("want a tarball without its row, as it was then: %s", r)
	}
	a := f.waitAlert(time.Minute, "@receiver", "index-broken", "ledger.index")
	detected := time.Since(broken)
	t.Logf("%s; %s", a.Reason, a.Fix)
	if !strings.Contains(a.Reason, "owned by root") || !strings.Contains(a.Fix, "chown cis490: /var/lib/cis490/index.jsonl") {
		t.Errorf("the alert names neither owner nor fix: %+v", a)
	}
	addEpisodes(h, 20, 10) // those that come meanwhile
	f.paste(a.Fix)
	healed := waitDrained(h, 2*time.Minute)
	if row := f.rx.Run("grep " + episode + " /var/lib/cis490/index.jsonl"); !strings.Contains(row, `"repaired":true`) {
		t.Errorf("the row of %s is not marked as repaired: %s", episode, row)
	}
	if rows := len(f.index()); rows != before+21 {
		t.Errorf("%d rows, want %d", rows, before+21)
	}
	f.checkReconciled(h)
	f.checkEachStoredOnce()
	f.waitResolved(time.Minute, "@receiver", "index-broken")
	reportTimes(t, detected, healed)
}
