package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Shrink returns the smallest plan that still breaks a rule: fewer faults, fewer hosts, less
// time. breaks plays a plan. The order of goroutines is not determined, so each smaller plan
// is played a few times before it is discarded.
func Shrink(p Plan, breaks func(Plan) bool) Plan {
	const tries = 2
	still := func(smaller Plan) bool {
		for range tries {
			if breaks(smaller) {
				return true
			}
		}
		return false
	}
	try := func(smaller Plan) {
		if still(smaller) {
			p = smaller
		}
	}
	for n := len(p.Faults) / 2; n > 0; n /= 2 { // many at once first
		for at := 0; at+n <= len(p.Faults); {
			smaller := p
			smaller.Faults = slices.Delete(slices.Clone(p.Faults), at, at+n)
			if still(smaller) {
				p = smaller
			} else {
				at += n
			}
		}
	}
	for p.Hosts > 1 {
		smaller := p
		smaller.Hosts--
		if !still(smaller) {
			break
		}
		p = smaller
	}
	var last time.Duration
	for _, f := range p.Faults {
		if last = max(last, f.At+f.For); f.When != "" {
			last = max(last, f.At+aimPatience+f.For)
		}
	}
	if last += time.Minute; last < p.Length {
		smaller := p
		smaller.Length = last
		try(smaller)
	}
	return p
}

// Source returns a plan as Go.
func (p Plan) Source() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "sim.Plan{Seed: %d, Hosts: %d, Pace: %d, Length: %s, Faults: []sim.Fault{\n", p.Seed, p.Hosts, p.Pace, in(p.Length))
	for _, f := range p.Faults {
		_, _ = fmt.Fprintf(&b, "\t{Kind: %q, Who: %d, At: %s, For: %s, N: %d, When: %q},\n", f.Kind, f.Who, in(f.At), in(f.For), f.N, f.When)
	}
	b.WriteString("}}")
	return b.String()
}

func in(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	return fmt.Sprintf("%d*time.Second", d/time.Second)
}
