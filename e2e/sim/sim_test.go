package sim_test

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cis490/e2e/sim"
)

// play runs a plan in a bubble of its own.
func play(t *testing.T, p sim.Plan, out io.Writer, level slog.Level) (r *sim.Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if r, err = sim.Run(p, out, level); err != nil {
			t.Error(err)
			r = &sim.Report{}
		}
	})
	return r
}

// TestPeace: without faults nothing is wrong, and nobody is told of anything.
func TestPeace(t *testing.T) {
	t.Parallel()
	r := play(t, sim.Plan{Seed: 1, Hosts: 2, Length: 24 * time.Hour}, nil, 0)
	if len(r.Wrong) > 0 || r.Messages > 0 {
		t.Errorf("%+v", r)
	}
	if r.Episodes < 200 || r.Runs < 250 {
		t.Errorf("%d episodes, %d runs of fleet-check: too little happens", r.Episodes, r.Runs)
	}
}

func number(name string, def int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return def
	}
	return n
}

// TestSim plays seeds: SEED is one, with its trace; SEEDS are as many.
func TestSim(t *testing.T) {
	seeds, days, hosts, from := number("SEEDS", 0), number("DAYS", 3), number("HOSTS", 3), number("FROM", 1)
	if one := number("SEED", 0); one > 0 {
		from, seeds = one, 1
	}
	if seeds == 0 {
		t.Skip("make sim")
	}
	var out io.Writer
	if seeds == 1 {
		out = os.Stderr
	}
	struck, states := map[string]int{}, map[[2]string]int{}
	rules := map[string]int{}
	for seed := from; seed < from+seeds; seed++ {
		p := sim.NewPlan(uint64(seed), hosts, time.Duration(days)*24*time.Hour, nil, without()...)
		start := time.Now()
		r := play(t, p, out, slog.LevelWarn)
		for k, n := range r.States {
			struck[k[0]] += n
			states[k] += n
		}
		for _, v := range r.Wrong {
			rules[v.Rule]++
			t.Logf("seed %d: %s: %s: %s", seed, v.At.Round(time.Minute), v.Rule, v.Text)
		}
		t.Logf("seed %d took %s: %d faults, %d episodes, %d checks, %d wrong", seed, time.Since(start).Round(10*time.Millisecond), len(p.Faults), r.Episodes, r.Checked, len(r.Wrong))
	}
	t.Log(rules)
	t.Log(states)
}

// broke tells whether a rule is among what was wrong.
func broke(r *sim.Report, rule string) bool {
	return slices.ContainsFunc(r.Wrong, func(v sim.Violation) bool { return v.Rule == rule })
}

// TestShrink shrinks what SEED breaks of RULE, and prints it as it can be kept.
func TestShrink(t *testing.T) {
	seed, rule := number("SEED", 0), os.Getenv("RULE")
	if seed == 0 || rule == "" {
		t.Skip("make sim-shrink SEED=n RULE=name")
	}
	p := sim.NewPlan(uint64(seed), number("HOSTS", 3), time.Duration(number("DAYS", 3))*24*time.Hour, nil, without()...)
	p = sim.Shrink(p, func(p sim.Plan) bool { return broke(play(t, p, nil, 0), rule) })
	fails := 0
	const replays = 20
	for range number("REPLAYS", replays) {
		if broke(play(t, p, nil, 0), rule) {
			fails++
		}
	}
	t.Logf("fails in %d of %d replays:\n%s", fails, number("REPLAYS", replays), p.Source())
}

// without returns the kinds that are left out: WITHOUT, or all but ONLY.
func without() []string {
	out := strings.Fields(os.Getenv("WITHOUT"))
	if only := strings.Fields(os.Getenv("ONLY")); len(only) > 0 {
		for _, name := range sim.Kinds() {
			if !slices.Contains(only, name) {
				out = append(out, name)
			}
		}
	}
	return out
}
