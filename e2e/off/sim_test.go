//go:build off

package off

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// simulated has the faults by which the simulator notices that a part is off.
type simulated struct {
	only  string // empty: all
	hosts int    // 0: 2
	days  int    // 0: 1
}

// sims returns the simulations by the name of the scenario.
func sims() map[string]simulated {
	return map[string]simulated{
		"01_RefusedForEver":            {only: "gate-wrong"},
		"02_LocalCommit":               {only: "gate-wrong host-local"},
		"03_EmptyList":                 {only: "release releases-unread"},
		"04_IndexOwnedByRoot":          {only: "rx-spot rx-root rx-flaky"},
		"05_AuthorityDown":             {only: "ca-away"},
		"06_ShipperHangs":              {only: "host-hang"},
		"07_InstallAgain":              {only: "host-install"},
		"07_InstallOverBroken":         {only: "host-broken"},
		"08_SickHostRedMonitor":        {only: "host-idle"},
		"09_CertificateExpired":        {only: "host-shelved"},
		"10_BadUpdate":                 {only: "release-crash"},
		"10_CanaryOff":                 {only: "canary-off"},
		"11_PowerCutReceiver":          {only: "rx-power"},
		"11_PowerCutUpdate":            {only: "trial-power"},
		"12_ReceiverDiskFull":          {only: "rx-low"},
		"13_HostDiskFull":              {only: "host-low"},
		"14_NeverReportedAndGone":      {only: "host-power", days: 3},
		"15_FastClock":                 {only: "host-clock-idle"},
		"15_SlowClock":                 {only: "host-clock-idle"},
		"16_Cloned":                    {only: "host-cloned"},
		"16_FalseRelease":              {only: "release rx-oldrelease"},
		"16_StolenToken":               {only: "impostor"},
		"17_FleetCheckStopped":         {only: "rx-unwatched host-power"},
		"18_NetworkGone":               {only: "hole"},
		"19_ReceiverRestored":          {only: "rx-restore"},
		"20_CaptivePortalAndGateWrong": {only: "gate-wrong portal"},
		"21_FalseAlarms":               {only: "host-leaves"},
		"alarm_NotDurable":             {only: "rx-nosync"},
		"alarm_OtherDisk":              {only: "rx-unmounted rx-power"},
		"alarm_Rotated":                {only: "hole rx-rotate"},
		"alarm_Unwritten":              {only: "rx-dead rx-ro rx-full"},
		"answer_CommitHeld":            {only: "answer-dies gate-block host-clock"},
		"answer_OtherEncoder":          {only: "answer-dies host-hand host-install"},
		"clock_FutureCA":               {only: "rx-clock ca-rotate"},
		"clock_FutureCertificate":      {only: "rx-clock ca-away"},
		"clock_FutureRun":              {only: "rx-clock rx-nobattery hole"},
		"clock_Jump":                   {},
		"trial_CrashForgotten":         {only: "release-crash host-power"},
	}
}

// TestSimOff searches, for each part, a seed of the simulator that breaks a rule without the
// part, and does not break it with the part.
func TestSimOff(t *testing.T) {
	root := projectRoot(t)
	marks, all := readMarks(t, root), parts()
	with := build(t, root, "")
	known := sims()
	maps.Copy(all, mends())
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			s, ok := known[name]
			if !ok {
				t.Fatal("add the faults that notice that the part is off to sims()")
			}
			p, at := all[name], name
			if other, ok := simulatedParts()[name]; ok {
				p, at = other, name+".sim"
			}
			without := build(t, root, p.overlay(t, root, marks, at))
			for from, began := 1, time.Now(); ; {
				seed, rule := search(t, without, s, from, seedsOff-from+1)
				if seed == 0 {
					t.Fatalf("| %s | %s | NOT NOTICED in %d seeds of %s |", name, all[name].what, seedsOff, s.only)
				}
				if again, other := search(t, with, s, seed, 1); again == 0 || other != rule {
					t.Logf("| %s | %s | seed %d of %s: %s | %d days in %s |", name, all[name].what, seed, cmp.Or(s.only, "all faults"), rule,
						seed*max(s.days, 1), time.Since(began).Round(time.Second))
					return
				}
				t.Logf("seed %d breaks %q with the part as well", seed, rule)
				from = seed + 1
			}
		})
	}
}

// seedsOff is the number of seeds within which the simulator must notice a missing part.
const seedsOff = 200

// build returns the simulator's test program, built with an overlay.
func build(t *testing.T, root, overlay string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "sim.test")
	args := []string{"test", "-c", "-ldflags=-s -w", "-o", bin}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./e2e/sim")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

var found = regexp.MustCompile(`(?m)FOUND seed (\d+) breaks "([^"]*)"`)

// search returns the first seed that breaks a rule, and that rule, or 0.
func search(t *testing.T, bin string, s simulated, from, seeds int) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, "-test.run=^TestSearch$", "-test.v", "-test.timeout=0")
	set := func(name string, value any) { cmd.Env = append(cmd.Env, fmt.Sprintf("CIS490_SIM_%s=%v", name, value)) }
	cmd.Env = append(os.Environ(), "GOGC=800")
	set("SEARCH", seeds)
	set("FROM", from)
	set("ONLY", s.only)
	set("HOSTS", max(s.hosts, 2))
	set("DAYS", max(s.days, 1))
	out, err := cmd.CombinedOutput()
	m := found.FindStringSubmatch(string(out))
	if m == nil {
		if err != nil { // a panic or a race
			return from, "it runs: " + lastLine(string(out))
		}
		return 0, ""
	}
	seed, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return seed, m[2]
}

func lastLine(out string) string {
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return line
		}
	}
	return strings.TrimSpace(out[max(0, len(out)-200):])
}
