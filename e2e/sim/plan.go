package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// NewPlan returns the plan of a seed. Faults are concurrent, in clusters, because programs
// seldom fail from a single fault. The first fault of a cluster is chosen in turn from all
// kinds, so that rare ones occur. Kinds in without are left out.
func NewPlan(seed uint64, hosts int, length time.Duration, without ...string) Plan {
	r, all := rand.New(rand.NewPCG(seed, 0x5e1f)), kinds()
	p := Plan{Seed: seed, Hosts: hosts, Length: length}
	var names, often []string
	for _, name := range Kinds() {
		if slices.Contains(without, name) {
			continue
		}
		names = append(names, name)
		for range all[name].Often {
			often = append(often, name)
		}
	}
	clusters := max(1, int(length/(8*time.Hour)))
	for range clusters {
		at := time.Duration(r.Int64N(int64(length))).Truncate(time.Second)
		if r.IntN(8) == 0 {
			at = 0
		}
		who := r.IntN(max(hosts, 1))
		for n := range 1 + r.IntN(5) {
			f := Fault{Kind: often[r.IntN(len(often))], Who: who, N: r.Int64N(1 << 30)}
			if n == 0 && r.IntN(3) == 0 {
				f.Kind = names[seed%uint64(len(names))]
			}
			if r.IntN(3) == 0 {
				f.Who = r.IntN(max(hosts, 1))
			}
			if f.At = at; at > 0 {
				f.At += time.Duration(r.Int64N(int64(20 * time.Minute))).Truncate(time.Second)
			}
			if at == 0 && f.Kind == "ca-spot" {
				f.At = 10 * time.Minute // tokens are created first
			}
			if most := all[f.Kind].Most; most > 0 {
				f.For = lasting(r, most)
			}
			if f.Kind == "host-clock" || f.Kind == "rx-clock" {
				f.N = steps[r.IntN(len(steps))]
				if f.For = lasting(r, 12*time.Hour); f.At == 0 {
					f.N = max(f.N, -f.N) // the clock of a new machine is ahead, or right
				}
			}
			if f.Kind == "host-clock-idle" {
				f.N = steps[2+r.IntN(4)] // small enough for connections to work
			}
			if f.Kind == "rx-nobattery" {
				f.N = -r.Int64N(7200) - 60
			}
			if !p.clashes(f) && (f.Kind != "ca-rotate" || p.has(f.Kind) < rotations) {
				p.Faults = append(p.Faults, f)
			}
		}
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return p
}

// steps are differences of clocks, in seconds.
var steps = []int64{90, -90, 600, -600, 2700, -2700, 8 * 3600, -8 * 3600, 86400, -86400, 40 * 86400, -3 * 86400}

// lasting returns a random duration; short ones are more likely.
func lasting(r *rand.Rand, most time.Duration) time.Duration {
	d := time.Duration(r.Int64N(int64(most)))
	if r.IntN(2) == 0 {
		d /= 8
	}
	return max(d, time.Minute).Truncate(time.Second)
}

// rotations is how many CAs a plan begins at most: from then on each handshake verifies one
// more.
const rotations = 2

// has returns how many faults of a kind the plan has.
func (p Plan) has(kind string) (n int) {
	for _, f := range p.Faults {
		if f.Kind == kind {
			n++
		}
	}
	return n
}

// clashes reports whether another fault of the plan affects the same part at the same time,
// so that the end of one would end the other.
func (p Plan) clashes(f Fault) bool {
	if f.For == 0 {
		return false
	}
	group := func(kind string) string {
		switch kind {
		case "hole", "refuse", "portal", "slow", "crawl", "answer-dies", "host-sleep":
			return "link"
		case "host-full", "host-ro", "host-flaky", "host-dead", "host-low":
			return "host disk"
		case "rx-full", "rx-ro", "rx-flaky", "rx-nosync", "rx-dead", "rx-unmounted", "rx-low":
			return "disk"
		case "host-power", "host-leaves", "host-shelved":
			return "host"
		case "rx-power", "rx-nobattery", "rx-clock":
			return "receiver"
		case "rx-spot", "rx-root", "ca-spot", "releases-unread":
			return "spot"
		case "host-spot", "host-root":
			return "host spot"
		case "host-idle", "host-clock-idle":
			return "recorder"
		case "gate-wrong", "gate-typo":
			return "gate"
		}
		return kind
	}
	host := kinds()[f.Kind].Party == OfHost
	return slices.ContainsFunc(p.Faults, func(g Fault) bool {
		return g.For > 0 && group(g.Kind) == group(f.Kind) && (!host || g.Who%p.Hosts == f.Who%p.Hosts) &&
			g.At < f.At+f.For+time.Minute && f.At < g.At+g.For+time.Minute
	})
}
