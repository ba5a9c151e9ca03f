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
//
// Some clusters aim at a state: their first fault leads to it, and others wait for it. The
// first cluster does, and the pairs of kind and state (goals) take turns.
func NewPlan(seed uint64, hosts int, length time.Duration, without ...string) Plan {
	d := &draft{Plan{Seed: seed, Hosts: hosts, Length: length}, rand.New(rand.NewPCG(seed, 0x5e1f)), kinds(), nil, nil}
	for _, name := range Kinds() {
		if slices.Contains(without, name) {
			continue
		}
		d.names = append(d.names, name)
		for range d.kinds[name].Often {
			d.often = append(d.often, name)
		}
	}
	goals := goalsOf(d.names)
	for n := range max(1, int(length/(8*time.Hour))) {
		at := time.Duration(d.r.Int64N(int64(length))).Truncate(time.Second)
		who := d.r.IntN(max(hosts, 1))
		switch {
		case len(goals) > 0 && n == 0:
			d.aim(goals[seed*scatter%uint64(len(goals))], at, who)
		case len(goals) > 0 && d.r.IntN(3) == 0:
			d.aim(goals[d.r.IntN(len(goals))], at, who)
		default:
			d.cluster(at, who)
		}
	}
	slices.SortStableFunc(d.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return d.Plan
}

// draft is a plan to which faults are added.
type draft struct {
	Plan
	r     *rand.Rand
	kinds map[string]Kind
	names []string // of the kinds
	often []string // each name as often as its weight
}

// cluster adds faults of any kind.
func (d *draft) cluster(at time.Duration, who int) {
	if d.r.IntN(8) == 0 {
		at = 0
	}
	for n := range 1 + d.r.IntN(5) {
		kind := d.often[d.r.IntN(len(d.often))]
		if n == 0 && d.r.IntN(3) == 0 {
			kind = d.names[d.Seed%uint64(len(d.names))]
		}
		d.add(d.fault(kind, at, who))
	}
}

// goal is a kind of fault, and a state that it is to strike.
type goal struct {
	kind  string
	state state
}

// scatter is a prime, so that consecutive seeds have distant goals, and each goal gets its turn.
const scatter = 7919

// Goals returns the pairs of a kind and a state that plans aim at.
func Goals() (all [][2]string) {
	for _, g := range goalsOf(Kinds()) {
		all = append(all, [2]string{g.kind, g.state.name})
	}
	return all
}

// goalsOf returns the pairs of some kinds of which another one leads to the state.
func goalsOf(names []string) (all []goal) {
	known := kinds()
	for _, s := range states() {
		for _, name := range names {
			lasts := known[name].Most > 0
			if slices.ContainsFunc(s.by, func(by string) bool {
				return slices.Contains(names, by) && (!lasts || known[by].Most == 0 || group(by) != group(name))
			}) {
				all = append(all, goal{name, s})
			}
		}
	}
	return all
}

// aim adds a fault that leads to a state, and others that wait for it.
func (d *draft) aim(g goal, at time.Duration, who int) {
	by := slices.DeleteFunc(slices.Clone(g.state.by), func(name string) bool { return !slices.Contains(d.names, name) })
	first := d.fault(by[d.r.IntN(len(by))], at, who)
	if most := d.kinds[first.Kind].Most; most > 0 { // long enough for the state
		first.For = max(first.For, (most/2 + time.Duration(d.r.Int64N(int64(most/2)))).Truncate(time.Second))
	}
	d.add(first)
	for n := range 1 + d.r.IntN(4) {
		kind := g.kind
		if n > 0 {
			kind = d.often[d.r.IntN(len(d.often))]
		}
		f := d.fault(kind, max(at, time.Second), who)
		f.When = g.state.name
		d.add(f)
	}
}

// fault returns a fault of a kind.
func (d *draft) fault(kind string, at time.Duration, who int) Fault {
	f := Fault{Kind: kind, Who: who, N: d.r.Int64N(1 << 30), At: at}
	if d.r.IntN(3) == 0 {
		f.Who = d.r.IntN(max(d.Hosts, 1))
	}
	if at > 0 {
		f.At += time.Duration(d.r.Int64N(int64(20 * time.Minute))).Truncate(time.Second)
	}
	if at == 0 && f.Kind == "ca-spot" {
		f.At = 10 * time.Minute // tokens are created first
	}
	if most := d.kinds[f.Kind].Most; most > 0 {
		f.For = lasting(d.r, most)
	}
	if f.Kind == "host-clock" || f.Kind == "rx-clock" {
		f.N = steps[d.r.IntN(len(steps))]
		if f.For = lasting(d.r, 12*time.Hour); f.At == 0 {
			f.N = max(f.N, -f.N) // the clock of a new machine is ahead, or right
		}
	}
	if f.Kind == "host-clock-idle" {
		f.N = steps[2+d.r.IntN(4)] // small enough for connections to work
	}
	if f.Kind == "rx-nobattery" {
		f.N = -d.r.Int64N(7200) - 60
	}
	return f
}

// add adds a fault, unless it clashes with another.
func (d *draft) add(f Fault) {
	if !d.clashes(f) && (f.Kind != "ca-rotate" || d.has(f.Kind) < rotations) {
		d.Faults = append(d.Faults, f)
	}
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

// group names the part that lasting faults of some kinds share.
func group(kind string) string {
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

// clashes reports whether another fault of the plan affects the same part at the same time,
// so that the end of one would end the other.
func (d *draft) clashes(f Fault) bool {
	if f.For == 0 {
		return false
	}
	host := d.kinds[f.Kind].Party == OfHost
	last := func(f Fault) time.Duration {
		if f.When != "" { // it may begin late, and at another host
			return f.At + aimPatience + f.For
		}
		return f.At + f.For
	}
	return slices.ContainsFunc(d.Faults, func(g Fault) bool {
		return g.For > 0 && group(g.Kind) == group(f.Kind) && (!host || f.When+g.When != "" || g.Who%d.Hosts == f.Who%d.Hosts) &&
			g.At < last(f)+time.Minute && f.At < last(g)+time.Minute
	})
}
