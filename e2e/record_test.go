//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// recordFor is how long TestRecordThroughTrouble records; CIS490_LAB_RECORD=20m sets
// another time.
const recordFor = 3 * time.Minute

// verification is a result of `episode verify --json`.
type verification struct {
	Path    string         `json:"path"`
	Profile string         `json:"profile"`
	Verdict string         `json:"verdict"`
	Rows    map[string]int `json:"rows"`
	Sound   bool           `json:"sound"`
	Faults  []struct{ File, Why string }
}

// TestRecordThroughTrouble: three hosts record in two slots each, while one crashes, one
// reboots and one is disconnected. Every stored episode is sound, and the receiver has as
// many episodes as the hosts have receipts.
func TestRecordThroughTrouble(t *testing.T) {
	inLane(t)
	last := recordFor
	if s := os.Getenv("CIS490_LAB_RECORD"); s != "" {
		var err error
		if last, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	f := newFleet(t, "lab-01", "lab-02", "lab-03")
	for _, h := range f.hosts {
		h.Write("/etc/cis490/lab-host.toml", twoSlotConfig(h), 0o644)
		h.Run("systemctl restart cis490-orchestrator")
	}
	killed, rebooted, cutOff := f.hosts[0], f.hosts[1], f.hosts[2]
	began := time.Now()
	at := func(share float64) { time.Sleep(time.Until(began.Add(time.Duration(share * float64(last))))) }
	at(0.2)
	killed.Crash()
	killed.Start()
	at(0.3)
	cutOff.CutOff()
	at(0.45)
	rebooted.Try("systemctl reboot") // the host may be gone before the command ends
	at(0.6)
	cutOff.Reconnect()
	at(0.75)
	killed.Crash()
	killed.Start()
	at(1)

	for _, h := range f.hosts {
		h.Eventually(60*time.Second, "the recorder runs again", "systemctl is-active cis490-orchestrator")
		// Autoupdate would start the recorder again: a stopped service is drift.
		h.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-orchestrator")
		h.Eventually(3*time.Minute, "an empty outbox",
			`test -z "$(ls /var/lib/cis490/data/outbox/*.tar.zst /var/lib/cis490/data/episodes/*/done.marker 2>/dev/null)"`)
		if half := h.Try("ls -d /var/lib/cis490/data/episodes/*/ 2>/dev/null").Out; half != "" {
			t.Errorf("%s: partial episodes after a clean stop:\n%s", h.Name, half)
		}
		if left := h.Try("pgrep -u cis490-rec -a").Out; left != "" {
			t.Errorf("%s: processes still run after the recorder has stopped:\n%s", h.Name, left)
		}
		if aside := h.Try("ls /var/lib/cis490/data/quarantine").Out; aside != "" {
			t.Errorf("%s: quarantined: %s", h.Name, aside)
		}
	}
	f.checkEachStoredOnce()
	rows := f.index()
	for _, h := range f.hosts {
		mine, slots := 0, f.slotsOf(h)
		for _, r := range rows {
			if r.Host == h.Name {
				mine++
			}
		}
		if receipts := h.Run("wc -l </var/lib/cis490/data/shipped/receipts.jsonl"); receipts != fmt.Sprint(mine) {
			t.Errorf("%s: %s receipts, the receiver has %d episodes", h.Name, receipts, mine)
		}
		if mine < int(last/time.Minute) {
			t.Errorf("%s: %d episodes in %s, want one a minute", h.Name, mine, last)
		}
		if slots != "0\n1" {
			t.Errorf("%s: slots with episodes: %q, want both", h.Name, slots)
		}
		t.Logf("%s: %d episodes", h.Name, mine)
	}
	f.verifyAll(len(rows))
}

// slotsOf lists the slots of a host's stored episodes.
func (f *fleet) slotsOf(h *lab.Host) string {
	f.t.Helper()
	return f.rx.Run("for e in /var/lib/cis490/episodes/" + h.Name + "/*.tar.zst; do zstd -dcq $e | tar -xO --wildcards '*/meta.json' | " +
		"jq .slot; done | sort -u")
}

// verifyAll runs `episode verify` on all stored episodes.
func (f *fleet) verifyAll(want int) {
	f.t.Helper()
	r := f.rx.Try("cis490 episode verify --json /var/lib/cis490/episodes/*/*.tar.zst")
	var all []verification
	if err := json.Unmarshal([]byte(r.Out), &all); err != nil {
		f.t.Fatalf("episode verify: %v\n%s", err, r)
	}
	verdicts, counts := map[string]int{}, map[string]int{}
	for _, e := range all {
		verdicts[e.Profile+" "+e.Verdict]++
		for source, n := range e.Rows {
			counts[source] += n
		}
		for _, fault := range e.Faults {
			f.t.Errorf("%s (%s): %s: %s", strings.TrimPrefix(e.Path, "/var/lib/cis490/episodes/"), e.Profile, fault.File, fault.Why)
		}
	}
	if r.Code != 0 || len(all) != want {
		f.t.Errorf("episode verify: exit code %d, %d episodes of %d", r.Code, len(all), want)
	}
	f.t.Logf("%d episodes verified: %v, rows %v", len(all), verdicts, counts)
}

// twoSlotConfig returns the host's config with the built-in experiment, two slots and a short rest.
func twoSlotConfig(h *lab.Host) string {
	return h.Run(`sed -e 's/^experiment = /# &/' -e 's/^# *rest = .*/rest = "1s"/' `+
		`-e 's/^# *max_slots = .*/max_slots = 2/' /etc/cis490/lab-host.toml`) + "\n"
}
