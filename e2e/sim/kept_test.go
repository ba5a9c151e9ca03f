package sim_test

import (
	"testing"
	"time"

	"cis490/e2e/sim"
)

// kept are shrunk plans that broke a rule once, each with the rule.
var kept = map[string]sim.Plan{
	"a receiver is back with its clock behind": { // no outage ends before it begins
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-nobattery", At: time.Hour, For: 40 * time.Minute, N: -2700},
		},
	},
	"hosts are silent when a receiver's clock is set right": { // no host alert for a receiver fault
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-nobattery", At: time.Hour, For: 40 * time.Minute, N: -2700},
		},
	},
	"a receiver's clock was ahead for a while": { // fleet-check judges
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-clock", At: time.Hour, For: 20 * time.Minute, N: 8 * 3600},
		},
	},
	"a clock was far ahead at enrolment": { // every queue drains
		Hosts: 1, Length: time.Hour, Faults: []sim.Fault{
			{Kind: "rx-clock", For: 30 * time.Minute, N: 40 * 86400},
		},
	},
	"a receiver's disk is dead": { // a lasting fault raises an alert
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-dead", At: 70 * time.Minute, For: 90 * time.Minute},
		},
	},
	"a receiver's disk rejects writes": { // a lasting fault raises an alert
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-ro", At: 70 * time.Minute, For: 90 * time.Minute},
		},
	},
	"a receiver's disk makes nothing durable": { // a lasting fault raises an alert
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-nosync", At: 70 * time.Minute, For: 90 * time.Minute},
		},
	},
	"a receiver's disk does not make uploads durable": { // a lasting fault raises an alert
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-nosync", At: 70 * time.Minute, For: 90 * time.Minute, N: 1},
		},
	},
	"a receiver's disk is not mounted": { // a lasting fault raises an alert
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-unmounted", At: 70 * time.Minute, For: 90 * time.Minute},
		},
	},
	"alerts are rotated while one fires": { // people are notified when alerts end
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "hole", At: time.Hour, For: 90 * time.Minute},
			{Kind: "rx-rotate", At: 2*time.Hour + 31*time.Minute},
		},
	},
	"a crash in the trial, and then a power cut": { // good had a clean trial
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "release-crash", At: time.Hour, N: 200},
			{Kind: "host-power", At: time.Hour + 6*time.Minute, For: time.Minute, N: 3},
		},
	},
	"stored, the answer lost, and its commit held for another": { // stored episodes leave the queue
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "answer-dies", At: time.Hour, For: time.Hour, N: 2},
			{Kind: "host-clock", At: time.Hour + 10*time.Minute, N: -8 * 3600},
			{Kind: "gate-block", At: time.Hour + 40*time.Minute},
		},
	},
	"stored, the answer lost, and packed again by another encoder": { // stored episodes leave the queue
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{
			{Kind: "answer-dies", At: time.Hour, For: time.Hour, N: 2},
			{Kind: "host-hand", At: time.Hour + 20*time.Minute},
			{Kind: "host-install", At: time.Hour + 30*time.Minute},
		},
	},
	"a host's receipts belong to root": { // a host sends few requests
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{{Kind: "host-root", At: time.Hour, For: 40 * time.Minute, N: 3 * 128}},
	},
	"a receiver's disk rejects writes from its first start on": { // no host alert for a receiver fault
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{{Kind: "rx-ro", For: 2 * time.Hour}},
	},
	"a receiver's clock jumps past the certificates of its hosts": { // no host alert for a receiver fault
		Hosts: 2, Length: 2 * time.Hour, Faults: []sim.Fault{{Kind: "rx-clock", At: time.Hour, For: 8 * time.Minute, N: 40 * 86400}},
	},
	"a receiver's clock is past the certificates of its hosts for two hours": { // no host alert for a receiver fault
		Hosts: 2, Length: 3 * time.Hour, Faults: []sim.Fault{{Kind: "rx-clock", At: time.Hour, For: 2 * time.Hour, N: 40 * 86400}},
	},
	"a receiver's clock jumps close to the end of its hosts' certificates": { // no host alert for a receiver fault
		Hosts: 2, Length: 46 * time.Hour, Pace: 4, Faults: []sim.Fault{{Kind: "rx-clock", At: 45 * time.Hour, For: 20 * time.Minute, N: 86400}},
	},
	"a receiver's disk is dead at its first start": { // no host alert for a receiver fault
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{{Kind: "rx-dead", For: 73*time.Minute + 50*time.Second}},
	},
	"a serve starts where it cannot read who left": { // no notification for a host that left
		Hosts: 1, Length: 8 * time.Hour, Faults: []sim.Fault{
			{Kind: "host-leaves", At: time.Hour, For: 6 * time.Hour},
			{Kind: "rx-spot", At: 70 * time.Minute, For: 30 * time.Minute, N: 64},
		},
	},
	"a host leaves after people were notified of it": { // people are notified when alerts end
		Hosts: 1, Length: 5 * time.Hour, Faults: []sim.Fault{
			{Kind: "host-idle", At: time.Hour, For: 150 * time.Minute},
			{Kind: "host-leaves", At: 3 * time.Hour, For: time.Hour},
		},
	},
	"an alert is muted before anybody could be notified": { // people are notified when alerts end
		Hosts: 1, Length: 4 * time.Hour, Faults: []sim.Fault{
			{Kind: "hole", At: time.Hour, For: 2 * time.Hour},
			{Kind: "nobody-hears", At: time.Hour + time.Minute, For: 50 * time.Minute},
			{Kind: "silence", At: time.Hour + 10*time.Minute, For: time.Hour},
		},
	},
	"a receiver's clock goes back and is set right while an alert is muted": { // no notification while muted
		Hosts: 1, Length: 14 * time.Hour, Faults: []sim.Fault{
			{Kind: "hole", At: time.Hour, For: 12 * time.Hour},
			{Kind: "silence", At: 2 * time.Hour, For: 9 * time.Hour, N: 1},
			{Kind: "rx-clock", At: 3 * time.Hour, For: 5 * time.Minute, N: -8 * 3600},
		},
	},
	"fleet-check sees that the clock is right before serve does, after a silence ended": { // people are notified when alerts end
		Hosts: 3, Length: 12 * time.Hour, Pace: 4, Faults: []sim.Fault{
			{Kind: "rx-clock", At: 2 * time.Hour, For: 5*time.Hour + time.Minute, N: 40 * 86400},
			{Kind: "silence", At: 3 * time.Hour, For: 30 * time.Minute, N: 1},
		},
	},
	"a person repeats a rotation of the CA that fails after its first step": { // no alert without a cause
		Hosts: 1, Length: 60 * time.Hour, Pace: 4, Faults: []sim.Fault{
			{Kind: "ca-spot", At: time.Hour, For: 10 * time.Hour, N: 1072168067},
			{Kind: "ca-rotate", At: 90 * time.Minute},
		},
	},
	"hosts renew while a receiver's clock is ahead": { // no host alert for a receiver fault
		Hosts: 2, Length: 56 * time.Hour, Pace: 4, Faults: []sim.Fault{
			{Kind: "rx-clock", At: 47*time.Hour + 30*time.Minute, For: 8 * time.Hour, N: 40 * 86400},
		},
	},
	"a person installs on the canary in its trial": { // a release advances
		Hosts: 2, Length: 7 * time.Hour, Faults: []sim.Fault{
			{Kind: "release", At: time.Hour},
			{Kind: "host-install", At: time.Hour + 12*time.Minute, Who: 0},
		},
	},
	"a host's units are removed while its update runs": { // the installed build runs
		Hosts: 1, Length: 8 * time.Hour, Faults: []sim.Fault{
			{Kind: "release", At: time.Hour},
			{Kind: "host-broken", At: time.Hour, N: 301, When: "in trial"},
		},
	},
	"a token expires when a receiver's clock is set right": { // every queue drains
		Hosts: 2, Length: 8 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-clock", At: time.Hour, For: 20 * time.Minute, N: -3 * 86400},
			{Kind: "ca-away", At: 65 * time.Minute, For: 4 * time.Minute},
			{Kind: "refuse", At: 65 * time.Minute, For: 20 * time.Minute},
		},
	},
	"a host enrolls while a receiver's clock is behind by the life of its certificate": { // no host alert for a receiver fault
		Hosts: 2, Length: 4 * time.Hour, Faults: []sim.Fault{
			{Kind: "ca-away", At: time.Hour, For: 4 * time.Minute},
			{Kind: "rx-clock", At: 65 * time.Minute, For: 2 * time.Hour, N: -3 * 86400},
		},
	},
	"a host asks in vain for certificates of a clock that is ahead, until it has no more": { // no host alert for a receiver fault
		Hosts: 2, Length: 7 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-clock", At: time.Hour, For: 4 * time.Hour, N: 40 * 86400},
			{Kind: "ca-away", At: 65 * time.Minute, For: 4 * time.Minute},
		},
	},
	"a host is issued a certificate that is expired by its own clock, and uses the one before": { // no alert without a cause
		Hosts: 1, Length: 8 * time.Hour, Faults: []sim.Fault{
			{Kind: "rx-nobattery", At: time.Hour, For: 2 * time.Hour, N: -4833},
			{Kind: "host-shelved", At: time.Hour + 50*time.Minute, For: 3 * time.Hour},
		},
	},
	"a person edits a host's config before the first install": { // a machine has a working binary
		Hosts: 1, Length: time.Hour, Faults: []sim.Fault{{Kind: "host-typo", For: 20 * time.Minute}},
	},
	"a receiver is not ready from its first start on": { // no host alert for a receiver fault
		Hosts: 1, Length: 2 * time.Hour, Faults: []sim.Fault{{Kind: "gate-typo", For: 2 * time.Hour}},
	},
}

// TestKept plays the kept plans.
func TestKept(t *testing.T) {
	t.Parallel()
	for name, plan := range kept {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, v := range play(t, plan, nil, 0).Wrong {
				t.Errorf("%s: %s: %s", v.At.Round(time.Minute), v.Rule, v.Text)
			}
		})
	}
}
