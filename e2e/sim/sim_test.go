//go:debug tlsmlkem=0
package sim_test

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cis490/e2e/sim"
)

// play runs a plan in its own bubble.
func play(t *testing.T, p sim.Plan, out io.Writer, level slog.Level) (r *sim.Report) {
	t.Helper()
	r = &sim.Report{}
	synctest.Test(t, func(t *testing.T) {
		report, err := sim.Run(p, out, level)
		if err != nil {
			t.Error(err)
			return
		}
		r = report
	})
	return r
}

// TestPeace: without faults no rule is broken and no message is sent.
func TestPeace(t *testing.T) {
	t.Parallel()
	r := play(t, sim.Plan{Seed: 1, Hosts: 2, Length: 8 * time.Hour}, nil, 0)
	if len(r.Wrong) > 0 || r.Messages > 0 {
		t.Errorf("%+v", r)
	}
	if r.Episodes < 100 || r.Runs < 100 {
		t.Errorf("%d episodes, %d runs of fleet-check: too little happens", r.Episodes, r.Runs)
	}
}

// setting is a number of the command line.
func setting(name string, usual int) int {
	n, err := strconv.Atoi(os.Getenv("CIS490_SIM_" + name))
	if err != nil {
		return usual
	}
	return n
}

// planOf returns the plan of a seed, with the settings of the command line.
func planOf(seed int) sim.Plan {
	days := setting("DAYS", 2)
	p := sim.NewPlan(uint64(seed), setting("HOSTS", 3), time.Duration(days)*24*time.Hour, without()...)
	if p.Pace = setting("PACE", 2); days >= 7 {
		p.Pace = setting("PACE", 4)
	}
	return p
}

// settings returns the variables of make that a plan depends on, if they are set.
func settings() (all string) {
	for _, name := range []string{"DAYS", "HOSTS", "PACE", "ONLY"} {
		if v := os.Getenv("CIS490_SIM_" + name); v != "" {
			all += fmt.Sprintf("%s='%s' ", name, v)
		}
	}
	return all
}

// oneThread is for the run of a single plan. Few goroutines of a bubble run at the same time,
// and waking another thread for each costs more than it gains.
func oneThread(t *testing.T) {
	t.Helper()
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// simulated returns the simulated time of a plan, in days.
func simulated(p sim.Plan) string {
	return fmt.Sprintf("%.1f simulated days", p.Simulated().Hours()/24)
}

// without returns the excluded kinds of faults: all except those in ONLY.
func without() (out []string) {
	only := strings.Fields(os.Getenv("CIS490_SIM_ONLY"))
	for _, name := range sim.Kinds() {
		if len(only) > 0 && !slices.Contains(only, name) {
			out = append(out, name)
		}
	}
	return out
}

// TestSim plays SEEDS seeds, beginning with FROM.
func TestSim(t *testing.T) {
	seeds, from := setting("SEEDS", 0), setting("FROM", 1)
	if seeds == 0 {
		t.Skip("make sim")
	}
	if seeds == 1 {
		oneThread(t)
	}
	var mu sync.Mutex
	states, rules := map[string]map[string]int{}, map[string]int{}
	checked, began := 0, time.Now()
	t.Run("seed", func(t *testing.T) {
		for seed := from; seed < from+seeds; seed++ {
			t.Run(strconv.Itoa(seed), func(t *testing.T) {
				t.Parallel()
				p, start := planOf(seed), time.Now()
				r := play(t, p, nil, 0)
				for _, v := range r.Wrong {
					t.Errorf("%s: %s: %s", v.At.Round(time.Minute), v.Rule, v.Text)
				}
				if t.Failed() {
					t.Logf("make sim SEED=%d %s  # its trace; with SHRINK='%s' the smallest plan that does it", seed, settings(), r.Wrong[0].Rule)
				}
				t.Logf("%s in %s: %d faults, %d episodes, %d checks", simulated(p), time.Since(start).Round(10*time.Millisecond),
					len(p.Faults), r.Episodes, r.Checked)
				mu.Lock()
				defer mu.Unlock()
				checked += r.Checked
				for _, v := range r.Wrong {
					rules[v.Rule]++
				}
				for k, n := range r.States {
					if states[k[0]] == nil {
						states[k[0]] = map[string]int{}
					}
					states[k[0]][k[1]] += n
				}
			})
		}
	})
	t.Logf("%d seeds of %s in %s, %d checks; broken rules: %v", seeds, simulated(planOf(from)), time.Since(began).Round(100*time.Millisecond),
		checked, rules)
	t.Log(table(states))
}

// table prints how often each kind of fault began in each state.
func table(states map[string]map[string]int) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%-14s", "struck while")
	for _, s := range sim.States() {
		_, _ = fmt.Fprintf(&b, "%13s", s)
	}
	for _, kind := range sim.Kinds() {
		_, _ = fmt.Fprintf(&b, "\n%-14s", kind)
		for _, s := range sim.States() {
			_, _ = fmt.Fprintf(&b, "%13d", states[kind][s])
		}
	}
	return b.String()
}

// TestSeed replays SEED with its trace. With SHRINK, the name of a rule, it prints the
// smallest plan that breaks the rule, and how often it does.
func TestSeed(t *testing.T) {
	seed, rule := setting("SEED", 0), os.Getenv("CIS490_SIM_SHRINK")
	if seed == 0 {
		t.Skip("make sim SEED=n")
	}
	oneThread(t)
	p := planOf(seed)
	if rule == "" {
		t.Log(p.Source())
		began := time.Now()
		for _, v := range play(t, p, os.Stderr, slog.LevelWarn).Wrong {
			t.Errorf("%s: %s: %s", v.At.Round(time.Minute), v.Rule, v.Text)
		}
		t.Logf("%s in %s", simulated(p), time.Since(began).Round(100*time.Millisecond))
		return
	}
	p = sim.Shrink(p, func(p sim.Plan) bool { return broke(play(t, p, nil, 0), rule) })
	const replays = 20
	fails := 0
	for range replays {
		if broke(play(t, p, nil, 0), rule) {
			fails++
		}
	}
	t.Logf("breaks %q in %d of %d replays:\n%s", rule, fails, replays, p.Source())
}

// TestSearch plays seeds one after the other until one breaks a rule.
func TestSearch(t *testing.T) {
	seeds, from := setting("SEARCH", 0), setting("FROM", 1)
	if seeds == 0 {
		t.Skip("make sim-off")
	}
	oneThread(t)
	for seed := from; seed < from+seeds; seed++ {
		if r := play(t, planOf(seed), nil, 0); len(r.Wrong) > 0 {
			t.Logf("FOUND seed %d breaks %q: %s", seed, r.Wrong[0].Rule, r.Wrong[0].Text)
			return
		}
	}
	t.Logf("%d seeds break nothing", seeds)
}

// broke reports whether a report has a violation of a rule.
func broke(r *sim.Report, rule string) bool {
	return slices.ContainsFunc(r.Wrong, func(v sim.Violation) bool { return v.Rule == rule })
}

// TestNewPlan_IsTheSeeds: a seed always gives the same plan, and different seeds differ.
func TestNewPlan_IsTheSeeds(t *testing.T) {
	one, again, other := planOf(7), planOf(7), planOf(8)
	if one.Source() != again.Source() || one.Source() == other.Source() {
		t.Errorf("%s\n%s\n%s", one.Source(), again.Source(), other.Source())
	}
}

// TestNewPlan_StrikesEverything: every kind of fault occurs.
func TestNewPlan_StrikesEverything(t *testing.T) {
	missing := map[string]bool{}
	for _, name := range sim.Kinds() {
		missing[name] = true
	}
	for seed := range 400 {
		for _, f := range planOf(seed).Faults {
			delete(missing, f.Kind)
		}
	}
	if len(missing) > 0 {
		t.Errorf("never chosen: %v", slices.Sorted(maps.Keys(missing)))
	}
}

// TestNewPlan_AimsAtEverything: every kind of fault waits for every state that it can strike,
// and another fault leads to that state.
func TestNewPlan_AimsAtEverything(t *testing.T) {
	aimed := map[[2]string]bool{}
	for seed := range 1200 {
		for _, f := range planOf(seed).Faults {
			aimed[[2]string{f.Kind, f.When}] = true
		}
	}
	for _, goal := range sim.Goals() {
		if !aimed[goal] {
			t.Errorf("%s never waits for %q", goal[0], goal[1])
		}
	}
}

// TestShrink_KeepsWhatMatters: only the fault that breaks the rule remains.
func TestShrink_KeepsWhatMatters(t *testing.T) {
	p := sim.Plan{Seed: 1, Hosts: 3, Length: 48 * time.Hour}
	for n := range 9 {
		p.Faults = append(p.Faults, sim.Fault{Kind: "cut", At: time.Duration(n) * time.Hour, N: int64(n)})
	}
	p = sim.Shrink(p, func(p sim.Plan) bool {
		return slices.ContainsFunc(p.Faults, func(f sim.Fault) bool { return f.N == 5 })
	})
	if len(p.Faults) != 1 || p.Faults[0].N != 5 || p.Hosts != 1 || p.Length > 6*time.Hour {
		t.Errorf("left: %s", p.Source())
	}
}
