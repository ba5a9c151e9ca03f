package sim_test

import (
	"testing"
	"time"

	"cis490/e2e/sim"
)

func TestTry(t *testing.T) {
	for name, p := range map[string]sim.Plan{
		"H1": {Seed: 1, Hosts: 1, Length: 6 * time.Hour, Faults: []sim.Fault{
			{Kind: "answer-dies", At: 2 * time.Hour, For: time.Hour, N: 2},
			{Kind: "host-clock", At: 2*time.Hour + 10*time.Minute, For: 30 * time.Hour, N: -8 * 3600},
			{Kind: "gate-block", At: 2*time.Hour + 40*time.Minute},
		}},
		"H2": {Seed: 1, Hosts: 1, Length: 6 * time.Hour, Faults: []sim.Fault{
			{Kind: "answer-dies", At: 2 * time.Hour, For: time.Hour, N: 2},
			{Kind: "host-hand", At: 2*time.Hour + 20*time.Minute},
			{Kind: "host-install", At: 2*time.Hour + 30*time.Minute},
		}},
		"G2": {Seed: 1, Hosts: 1, Length: 6 * time.Hour, Faults: []sim.Fault{
			{Kind: "release-crash", At: 2 * time.Hour, N: 200},
			{Kind: "host-power", At: 2*time.Hour + 8*time.Minute, For: time.Minute, N: 3},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := play(t, p, t.Output(), 4)
			for _, v := range r.Wrong {
				t.Errorf("%s: %s: %s", v.At.Round(time.Minute), v.Rule, v.Text)
			}
		})
	}
}
