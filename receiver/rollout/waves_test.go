package rollout_test

import (
	"fmt"
	"testing"

	"cis490/internal/ident"
	rel "cis490/internal/manifest"
	"cis490/receiver/rollout"
)

// TestWaves: each host is in one wave; the one that is offered the release waits for its
// hosts without a result, later ones for the wave before.
func TestWaves(t *testing.T) {
	var hosts []ident.Host
	for i := range 40 {
		hosts = append(hosts, ident.Host(fmt.Sprintf("lab-%02d", i)))
	}
	p := rel.Progress{Seq: 7, Stage: rel.StageQuarter, Canaries: hosts[:1:1], Clean: hosts[:1:1]}
	first := rollout.Waves(p, hosts)[2].Hosts
	p.Clean, p.RolledBack = append(p.Clean, first[0]), first[1:2]
	waves := rollout.Waves(p, hosts)
	members := 0
	for _, w := range waves {
		members += len(w.Hosts)
	}
	canary, quarter, rest := waves[1], waves[2], waves[3]
	if members != len(hosts) || len(waves[0].Hosts) != 0 || len(canary.Hosts) != 1 || len(quarter.Hosts) < 4 {
		t.Errorf("waves of %d hosts: %+v", len(hosts), waves)
	}
	if !canary.Done || canary.Passed != 1 || len(canary.Waiting) != 0 {
		t.Errorf("canary: %+v", canary)
	}
	if quarter.Done || !quarter.Offered || quarter.Passed != 1 || quarter.Failed != 1 || len(quarter.Waiting) != len(quarter.Hosts)-2 {
		t.Errorf("quarter: %+v", quarter)
	}
	if rest.Offered || len(rest.Waiting) != 0 {
		t.Errorf("all: %+v", rest)
	}
	if got := rollout.Waves(rel.Progress{Seq: 7, Stage: rel.StageWithdrawn}, hosts); got != nil {
		t.Errorf("a withdrawn release has waves: %+v", got)
	}
}
