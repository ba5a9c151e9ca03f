package ship

import (
	"time"

	"cis490/internal/wire"
)

// Rule defines what an action of package wire does to the episode and to the uplink.
type Rule struct {
	Action wire.Action
	Does   string // the description in docs/shipping.md

	// pauses: nothing is sent for a while, because the episode did not cause the fault. The
	// wait grows from first to most, with jitter.
	pauses      bool
	first, most time.Duration
	// settled: the receiver works, so the uplink's wait starts over.
	settled bool
}

// Rules returns the shipper's action for each outcome.
func Rules() []Rule {
	return []Rule{
		{
			Action: wire.Retire, settled: true,
			Does: "saves the receipt durably, then moves the tarball to `shipped/`",
		},
		{
			Action: wire.Quarantine, settled: true,
			Does: "quarantines the episode; retries once when the policy changes",
		},
		{
			Action: wire.Conflict, settled: true,
			Does: "quarantines the episode with its tarball; no automatic retry, no expiry",
		},
		{
			Action: wire.HoldCommit, settled: true,
			Does: "holds all episodes of this commit until the policy changes; no expiry",
		},
		{
			Action: wire.Repack, settled: true,
			Does: "packs the episode again once, then quarantines it",
		},
		{
			Action: wire.Hourly, pauses: true, first: time.Minute, most: time.Hour,
			Does: "keeps the episode; sends nothing for a growing wait of up to an hour, or until a ping is accepted or there is a new certificate",
		},
		{
			Action: wire.BackOff, pauses: true, first: time.Second, most: 10 * time.Minute,
			Does: "keeps the episode; waits with full jitter up to 10 minutes, or `Retry-After` if longer",
		},
		{
			Action: wire.Await, pauses: true, first: time.Second, most: time.Minute,
			Does: "keeps the episode; waits with full jitter up to a minute, or `Retry-After` if longer",
		},
		{
			Action: wire.Network, pauses: true, first: time.Second, most: 45 * time.Second,
			Does: "keeps the episode; waits with full jitter up to 45 seconds, then pings before the next upload",
		},
	}
}

// longest returns the longest wait that a receiver may ask for.
func (r Rule) longest() time.Duration { return max(r.most, 10*time.Minute) }

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

// ActionOf returns the action for a request's error: the one that package wire defines for
// a rejection by a receiver, else Network.
func ActionOf(err error) wire.Action {
	if err == nil {
		return wire.Retire
	}
	if p := refusal(err); p != nil {
		return wire.ActionOf(p)
	}
	return wire.Network
}
