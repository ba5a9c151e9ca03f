package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/manifest"
	"cis490/internal/wire"
	"cis490/receiver"
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

// Orders returns the orders that change how far the release goes.
func (v releaseView) Orders() []manifest.Verb {
	switch v.Stage {
	case manifest.StageWithdrawn:
		return nil
	case manifest.StageAll:
		return []manifest.Verb{manifest.OrderWithdraw}
	}
	return []manifest.Verb{manifest.OrderPromote, manifest.OrderWithdraw}
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
	p := releasesPage{At: m.At, Rows: releaseViews(all, rollout)}
	runs, offered := map[string]int{}, map[string]int{}
	for _, h := range m.Hosts {
		if h.Roster == nil || h.Roster.State != roster.Active {
			continue
		}
		p.Active++
		runs[h.Version()]++
		offered[h.Offered]++
	}
	for i, v := range p.Rows {
		p.Rows[i].Runs, p.Rows[i].Offered = runs[v.Version], offered[v.Version]
	}
	return s.render(w, r, http.StatusOK, "releases", "Releases", p)
}

func releaseViews(all []manifest.Published, rollout manifest.Rollout) (rows []releaseView) {
	for _, x := range all {
		m := x.Manifest
		v := releaseView{Progress: manifest.Progress{
			Seq: m.Seq, Version: m.Version, Commit: m.Commit, Since: x.At, Reason: "not rolled out yet",
		}}
		if known := rollout.Of(m.Seq); known != nil {
			v.Progress = *known
		}
		rows = append(rows, v)
	}
	return rows
}

// copies reports whether another receiver takes orders.
func (s *Site) copies() bool { return s.o.Copies != nil && s.o.Copies() }

// root returns where root gives orders: of several receivers, the one that has the authority.
func (s *Site) root() string {
	if !s.copies() {
		return "the receiver"
	}
	for _, m := range s.o.Receivers() {
		if slices.Contains(m.Does, receiver.Publishing) {
			name, _, _ := strings.Cut(m.Name, " ")
			return check.Sanitize(name, 80)
		}
	}
	return "the receiver that has the authority"
}

// order appends an order about a release, as the commands of root do.
func (s *Site) order(w http.ResponseWriter, r *http.Request) error {
	all, err := s.o.Backend.Releases.List()
	if err != nil {
		return err
	}
	rollout, err := s.o.Backend.Releases.Rollout()
	if err != nil {
		return err
	}
	verb := manifest.Verb(r.PostForm.Get("do"))
	for _, v := range releaseViews(all, rollout) {
		if strconv.FormatUint(v.Seq, 10) != r.PostForm.Get("seq") || !slices.Contains(v.Orders(), verb) {
			continue
		}
		if s.copies() {
			return wire.NewProblem(wire.NotFound, "this receiver has copies of the releases; run on %s: sudo cis490 release %s --seq %d",
				s.root(), verb, v.Seq)
		}
		err := s.o.Backend.Releases.Give(manifest.Order{
			Verb: verb, Seq: v.Seq, Version: v.Version, Commit: v.Commit, Reason: "by " + Holder(r) + " on the dashboard", By: Holder(r),
		})
		if err != nil {
			return err
		}
		s.o.Log.Info("release ordered", "order", verb, "version", v.Version, "seq", v.Seq, "by", Holder(r), "from", s.o.From(r))
		http.Redirect(w, r, "/releases", http.StatusSeeOther)
		return nil
	}
	return wire.NewProblem(wire.NotFound, "no release allows this order any more: reload the page")
}
