package web

import (
	"fmt"
	"net/http"
	"time"

	"cis490/internal/manifest"
	"cis490/receiver/roster"
)

type releasesPage struct {
	At     time.Time
	Rows   []releaseView
	Active int // hosts that could run one
}

// releaseView is a release and how far it came.
type releaseView struct {
	manifest.Progress
	Runs, Offered int // hosts that report it, and hosts that are offered it
}

// command is what root runs on the receiver.
type command struct{ Name, Line string }

// Commands returns the commands that change how far the release goes.
func (v releaseView) Commands() []command {
	line := func(verb string) command {
		return command{verb, fmt.Sprintf("sudo cis490 release %s --seq %d", verb, v.Seq)}
	}
	switch v.Stage {
	case manifest.StageWithdrawn:
		return nil
	case manifest.StageAll:
		return []command{line("withdraw")}
	}
	return []command{line("promote"), line("withdraw")}
}

// releases shows what is published, newest first, and its way through the fleet.
func (s *Site) releases(w http.ResponseWriter, r *http.Request) error {
	m, err := s.model()
	if err != nil {
		return err
	}
	all, err := s.o.Backend.Releases.List()
	if err != nil {
		return err
	}
	rollout, err := s.o.Backend.Releases.Rollout()
	if err != nil {
		return err
	}
	p := releasesPage{At: m.At}
	runs, offered := map[string]int{}, map[string]int{}
	for _, h := range m.Hosts {
		if h.Roster == nil || h.Roster.State != roster.Active {
			continue
		}
		p.Active++
		runs[h.Version()]++
		offered[h.Offered]++
	}
	for _, x := range all {
		v := releaseView{
			Progress: manifest.Progress{
				Seq:     x.Manifest.Seq,
				Version: x.Manifest.Version,
				Commit:  x.Manifest.Commit,
				Since:   x.At,
				Reason:  "not rolled out yet",
			},
		}
		if known := rollout.Of(x.Manifest.Seq); known != nil {
			v.Progress = *known
		}
		v.Runs, v.Offered = runs[v.Version], offered[v.Version]
		p.Rows = append(p.Rows, v)
	}
	return s.render(w, r, http.StatusOK, "releases", "Releases", p)
}
