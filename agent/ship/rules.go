package ship

import (
	"time"

	"cis490/internal/wire"
)

// Rule says what an action of the wire's table of answers does to the episode
// and to the line to the receiver.
type Rule struct {
	Action wire.Action
	Does   string // for people: docs/shipping.md tells it

	// pauses: nothing is sent for a while, as the fault is not the episode's. The
	// wait grows from first to most and is jittered.
	pauses      bool
	first, most time.Duration
	// settled: the receiver works; waits grown on its account start over.
	settled bool
}

// Rules returns the one table of what the shipper does upon an outcome.
func Rules() []Rule {
	return []Rule{
		{
			Action: wire.Retire, settled: true,
			Does: "receipt durable, then out of the outbox",
		},
		{
			Action: wire.Quarantine, settled: true,
			Does: "set aside; sent once more by itself when the policy changes",
		},
		{
			Action: wire.Conflict, settled: true,
			Does: "set aside with its tarball; never sent again by itself, never expires",
		},
		{
			Action: wire.HoldCommit, settled: true,
			Does: "nothing more of this commit is sent until the policy changes; kept, never expires",
		},
		{
			Action: wire.Repack, settled: true,
			Does: "packed again once, then set aside",
		},
		{
			Action: wire.Hourly, pauses: true, first: time.Minute, most: time.Hour,
			Does: "kept; nothing is sent for a wait that grows to an hour; a new certificate ends it",
		},
		{
			Action: wire.BackOff, pauses: true, first: time.Second, most: 10 * time.Minute,
			Does: "kept; waits with full jitter up to 10 minutes, Retry-After if that is longer",
		},
		{
			Action: wire.Network, pauses: true, first: time.Second, most: 45 * time.Second,
			Does: "kept; waits with full jitter up to 45 seconds, then pings before it sends",
		},
	}
}

func ruleOf(a wire.Action) Rule {
	var network Rule
	for _, r := range Rules() {
		if r.Action == a {
			return r
		}
		network = r
	}
	return network
}

// ActionOf returns the action upon the error of a request: the table's for a
// refusal by a receiver of ours, Network for everything else.
func ActionOf(err error) wire.Action {
	if err == nil {
		return wire.Retire
	}
	if p := refusal(err); p != nil {
		return wire.ActionOf(p)
	}
	return wire.Network
}
