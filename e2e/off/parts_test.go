// Package off shows that the scenarios of the incidents can fail: each runs again with a
// binary without the part that heals the incident, and must fail. The source tree does not
// change; the builds read an overlay. `make incidents-off` runs all, INCIDENT=04 one.
package off

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// without is a change of one source file that switches a part off.
type without struct{ part, file, old, with string }

// TestParts_AreInTheSource: each change finds the text that it changes.
func TestParts_AreInTheSource(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for scenario, w := range parts {
		t.Run(scenario, func(t *testing.T) { w.overlay(t, root) })
	}
}

// overlay writes the changed file, and what go build shall read in place of what.
func (w without) overlay(t *testing.T, root string) string {
	t.Helper()
	path := filepath.Join(root, w.file)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), w.old) != 1 {
		t.Fatalf("%s: want once: %q", w.file, w.old)
	}
	changed := filepath.Join(t.TempDir(), filepath.Base(w.file))
	if err := os.WriteFile(changed, []byte(strings.Replace(string(b), w.old, w.with, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := changed + ".json"
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// parts names, by the name of the scenario, what heals the incident or names it.
var parts = map[string]without{
	"01_RefusedForEver": {
		"holding a refused commit", "agent/ship/queue.go",
		"	_, held := q.holds[e.commit]\n	return held && !e.noted", "	return false",
	},
	"02_LocalCommit": {
		"asking the gate before recording", "agent/orchestrate/admit.go",
		"	if err := r.gate.ask(ctx); err != nil {\n		return err\n	}\n", "",
	},
	"03_EmptyList": {
		"telling a list that is not known from one that is empty", "receiver/rollout/rollout.go",
		"	if r.unread != nil {\n		return nil, r.unread\n	}\n", "",
	},
	"04_IndexOwnedByRoot": {
		"owing the row of a stored tarball", "receiver/store/store.go",
		"if it, ok := s.stagedOf(k); ok {", `if it, ok := s.stagedOf(k); ok && s.id == "" {`,
	},
	"05_AuthorityDown": {
		"asking for a certificate again", "assets/units/cis490-cert-fetch.service.tmpl",
		"Type=oneshot\n", "Type=oneshot\nRemainAfterExit=yes\n",
	},
	"06_ShipperHangs": {
		"starting what the watchdog ended", "assets/units/parts.tmpl",
		"Restart=on-failure\n", "Restart=no\n",
	},
	"07_InstallAgain": {
		"restarting what runs another binary", "install/services.go",
		`return "runs another binary"`, `return ""`,
	},
	"07_InstallOverBroken": {
		"enabling what somebody disabled", "install/services.go",
		"	steps := []step{p.reload(), p.enable()}", "	steps := []step{p.reload()}",
	},
	"08_SickHostRedMonitor": {
		"an exit code that only says that it ran", "commands/fleet_check.go",
		"r.Hosts, len(r.Open), told)\n", "r.Hosts, len(r.Open), told)\n	if len(r.Open) > 0 {\n		return verdict()\n	}\n",
	},
	"09_CertificateExpired": {
		"renewal by a key whose certificate ran out", "receiver/authority/issue.go",
		"case host.State != roster.Active:", "case host.State != roster.Active || !host.CertExpires.After(a.o.Now()):",
	},
	"10_BadUpdate": {
		"the way back to the version before", "install/update/rollback.go",
		`back := filepath.Join("versions", t.From)`, `back := filepath.Join("versions", t.Folder)`,
	},
	"10_CanaryOff": {
		"a second canary when the first falls silent", "receiver/rollout/step.go",
		"maxCanaries = 3", "maxCanaries = 1",
	},
	"11_PowerCutReceiver": {
		"the flush before the row", "internal/disk/os.go",
		"unix.Syncfs(int(f.d.Fd()))", "unix.Fstat(int(f.d.Fd()), new(unix.Stat_t))",
	},
	"11_PowerCutUpdate": {
		"taking a trial up again after a boot", "install/update/update.go",
		"if t := u.s.Trial; t != nil {\n		switch", "if t := u.s.Trial; t != nil {\n		if t.Boot != u.o.Machine.Boot() {\n			return Result{Did: " +
			"Observing}, nil\n		}\n		switch",
	},
	"12_ReceiverDiskFull": {
		"the receiver's reserve", "receiver/store/space.go",
		"left < s.o.Reserve {", "left < 0 {",
	},
	"13_HostDiskFull": {
		"the recorder's reserve", "agent/orchestrate/admit.go",
		"if free < r.o.DiskReserve {", "if free < 0 {",
	},
	"14_NeverReportedAndGone": {
		"symptom gone", "receiver/fleet/detect.go",
		"NeverReported: neverReported, Gone: gone,", "NeverReported: neverReported,",
	},
	"15_FastClock": {
		"the clock as a reason", "receiver/fleet/reason.go",
		"case alive && c.Offset.Abs() > skew && !f.skewed:", "case alive && c.Offset.Abs() > 1000*24*time.Hour:",
	},
	"15_SlowClock": {
		"the clock as a reason", "receiver/fleet/reason.go",
		"case alive && c.Offset.Abs() > skew && !f.skewed:", "case alive && c.Offset.Abs() > 1000*24*time.Hour:",
	},
	"16_Cloned": {
		"symptom cloned", "receiver/fleet/detect.go",
		"BacklogGrowing: backlogGrowing, Cloned: cloned,", "BacklogGrowing: backlogGrowing,",
	},
	"16_FalseRelease": {
		"the memory of the newest release that was seen", "install/update/look.go",
		"	u.s.Seen[signer.ID()] = m.Seq\n", "",
	},
	"16_StolenToken": {
		"the comparison of the path with the certificate", "receiver/server/identity.go",
		"case named != \"\" && named != host:", "case named != \"\" && host == \"\":",
	},
	"17_FleetCheckStopped": {
		"the hosts' check of when fleet-check last ran", "agent/checks/network.go",
		"return machine.Fresh(p.FleetCheck, joined, p.ServerTime)", "return machine.Fresh(p.ServerTime, joined, p.ServerTime)",
	},
	"18_NetworkGone": {
		"the deadline on silence", "agent/client/request.go",
		"	s := &silence{limit: limit, ", "	limit, working = 1000*limit, 1000*working\n	s := &silence{limit: limit, ",
	},
	"19_ReceiverRestored": {
		"what hosts do about another store_id", "agent/ship/ping.go",
		"if otherStore {", "if otherStore && first {",
	},
	"20_CaptivePortalAndGateWrong": {
		"holding by commit", "agent/ship/outcome.go",
		"case wire.HoldCommit:\n", "case wire.HoldCommit:\n\t\ts.setAside(e, reasonOf(p, e, policy))\n\t\treturn\n",
	},
	"21_FalseAlarms": {
		"what a host says when it leaves", "receiver/fleet/detect.go",
		"Quiet: r.Code == reasonLeft,", "Quiet: false,",
	},
}
