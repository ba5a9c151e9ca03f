package rollout

import (
	"slices"

	"cis490/internal/ident"
	rel "cis490/internal/manifest"
)

// Wave is the hosts that are offered a release from the same stage on.
type Wave struct {
	Stage  rel.Stage    `json:"stage"`
	Hosts  []ident.Host `json:"hosts,omitempty"` // none of the receiver's own wave
	Passed int          `json:"passed"`
	Failed int          `json:"failed"`
	// Waiting are the hosts whose trial has not ended, once the wave is offered the release.
	Waiting []ident.Host `json:"waiting,omitempty"`
	// Offered reports whether the wave is offered the release, Done whether a later one is too.
	Offered bool `json:"offered"`
	Done    bool `json:"done"`
}

// Waves returns which of the fleet's hosts is in which wave of a release; nil for a release
// that is not rolled out.
func Waves(p rel.Progress, hosts []ident.Host) []Wave {
	stages := []rel.Stage{rel.StageReceiver, rel.StageCanary, rel.StageQuarter, rel.StageAll}
	now := slices.Index(stages, p.Stage)
	if now < 0 {
		return nil
	}
	all := make([]Wave, len(stages))
	for i, s := range stages {
		all[i] = Wave{Stage: s, Offered: i <= now, Done: i < now}
	}
	for _, h := range hosts {
		w := &all[3]
		switch {
		case slices.Contains(p.Canaries, h):
			w = &all[1]
		case inQuarter(p.Seq, h):
			w = &all[2]
		}
		w.Hosts = append(w.Hosts, h)
		switch {
		case slices.Contains(p.RolledBack, h):
			w.Failed++
		case slices.Contains(p.Clean, h):
			w.Passed++
		case w.Offered:
			w.Waiting = append(w.Waiting, h)
		}
	}
	return all
}
