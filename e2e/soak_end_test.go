//go:build e2e && soak

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// startPortal starts a captive portal at the switch. It answers each request with a page,
// and has a certificate that no host trusts.
func (s *soak) startPortal() {
	dir := s.t.TempDir()
	key, cert := filepath.Join(dir, "key"), filepath.Join(dir, "cert")
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-subj", "/CN=portal", "-addext", "subjectAltName=DNS:collector.lab", "-keyout", key, "-out", cert).CombinedOutput(); err != nil {
		s.t.Fatalf("make the portal's certificate: %v\n%s", err, out)
	}
	server := s.Command("openssl", "s_server", "-accept", "8443", "-cert", cert, "-key", key, "-www", "-quiet")
	if err := server.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
}

// checkBothSides checks that each host's receipts match the receiver's rows, rows have
// their files, and only junk is quarantined.
func (s *soak) checkBothSides() {
	s.checkEachStoredOnce()
	stored := map[string]int{}
	for _, r := range s.index() {
		stored[r.Host]++
	}
	aside := map[string]bool{}
	for _, h := range s.hosts {
		if r := h.Try("sudo -u cis490 cis490 reconcile"); r.Code != 0 || !strings.HasPrefix(r.Out, "the receiver has all ") {
			s.t.Errorf("%s: reconcile: %s", h.Name, r)
		}
		var receipts []row
		if err := json.Unmarshal([]byte(h.Run("jq -s . "+spool+"/shipped/receipts.jsonl")), &receipts); err != nil {
			s.t.Fatalf("%s: receipts.jsonl: %v", h.Name, err)
		}
		once := map[string]bool{}
		for _, r := range receipts {
			once[r.Episode] = true
		}
		if len(once) != stored[h.Name] || len(once) != len(receipts) {
			s.t.Errorf("%s: %d receipts of %d episodes, the receiver has %d", h.Name, len(receipts), len(once), stored[h.Name])
		}
		for id := range strings.FieldsSeq(h.Run("journalctl --no-pager -o cat -u cis490-orchestrator | grep 'episode recorded' | " +
			"grep -o 'episode=[0-9A-Z]*' | cut -c9-")) {
			if !once[id] {
				s.t.Errorf("%s: episode %s was recorded and has no receipt", h.Name, id)
			}
		}
		for id := range strings.FieldsSeq(h.Run("ls " + spool + "/quarantine")) {
			aside[h.Name+"/"+id] = true
		}
		for _, command := range []string{"cis490 doctor", "cis490 install lab-host --check"} {
			if r := h.Try(command); r.Code != 0 && !strings.Contains(r.Out, "autoupdate") {
				s.t.Errorf("%s, at the end: %s: %s", h.Name, command, r)
			}
		}
	}
	if !maps.Equal(aside, s.aside) {
		s.t.Errorf("quarantined: %v, want %v", aside, s.aside)
	}
	if r := s.rx.Try("cis490 doctor --deep && cis490 install receiver --check"); r.Code != 0 {
		s.t.Errorf("the receiver, at the end: %s", r)
	}
	s.t.Logf("%d episodes, each with row, file and receipt", len(s.index()))
}

// logTable logs, for each kind of fault, its count and times.
func (s *soak) logTable() {
	type times struct{ detect, heal []time.Duration }
	by := map[string]*times{}
	for _, h := range s.hits {
		if by[h.name] == nil {
			by[h.name] = &times{}
		}
		t := by[h.name]
		if d, ok := h.detection(); ok {
			t.detect = append(t.detect, d)
		}
		t.heal = append(t.heal, h.healed.Sub(h.ended))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%-32s %5s  %-17s  %s\n", "fault", "count", "detected (med/max)", "healed (med/max)")
	for _, name := range slices.Sorted(maps.Keys(by)) {
		t := by[name]
		fmt.Fprintf(&text, "%-32s %5d  %-17s  %s\n", name, len(t.heal), medianAndMax(t.detect), medianAndMax(t.heal))
	}
	s.t.Logf("\n%s", text.String())
}

// medianAndMax formats the median and the longest of the durations.
func medianAndMax(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	return fmt.Sprintf("%.0fs / %.0fs", all[len(all)/2].Seconds(), all[len(all)-1].Seconds())
}

// detection returns the time from the strike to the first alert.
func (h *hit) detection() (time.Duration, bool) {
	if len(h.alerted) == 0 {
		return 0, false
	}
	all := slices.SortedFunc(maps.Values(h.alerted), time.Time.Compare)
	return all[0].Sub(h.struck), true
}

// describeTimes formats the times of a healed hit.
func (h *hit) describeTimes() string {
	detected := "no alert"
	if d, ok := h.detection(); ok {
		detected = fmt.Sprintf("alert after %.0fs", d.Seconds())
	}
	return fmt.Sprintf("%s, ended after %.0fs, healed %.0fs later", detected, h.ended.Sub(h.struck).Seconds(), h.healed.Sub(h.ended).Seconds())
}
