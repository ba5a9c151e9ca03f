package web

import (
	"net/http"
	"time"

	"cis490/internal/check"
	"cis490/internal/wire"
	"cis490/receiver/fleet"
)

// Silence is a word that an alert is known of.
type Silence struct {
	Until time.Time // zero: until the alert resolves
	By    string
}

// Silences keeps silences durably.
type Silences interface {
	// Active returns those that hold at a time.
	Active(now time.Time) (map[fleet.Key]Silence, error)
	// Silence makes one; until may be zero.
	Silence(k fleet.Key, until time.Time, by string) error
}

func (s *Site) silences(now time.Time) (map[fleet.Key]Silence, error) {
	if s.o.Silences == nil {
		return nil, nil
	}
	return s.o.Silences.Active(now)
}

// silence makes a silence for an alert that is open.
func (s *Site) silence(w http.ResponseWriter, r *http.Request) error {
	if s.o.Silences == nil {
		return wire.NewProblem(wire.NotFound, "this receiver keeps no silences")
	}
	k := fleet.Key{Host: r.PostForm.Get("host"), Symptom: r.PostForm.Get("symptom")}
	m, err := s.model()
	if err != nil {
		return err
	}
	open := false
	for _, a := range m.Alerts {
		open = open || a.Key() == k
	}
	if !open {
		return wire.NewProblem(wire.NotFound, "there is no open alert %.80q of %.80q: it may have resolved", check.Sanitize(k.Symptom, 80), check.Sanitize(k.Host, 80))
	}
	until := time.Time{}
	switch v := r.PostForm.Get("for"); v {
	case "":
	case "1h", "24h", "168h":
		d, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		until = s.o.Now().Add(d)
	default:
		return wire.NewProblem(wire.Malformed, "how long is %.20q", v)
	}
	if err := s.o.Silences.Silence(k, until, "dashboard, from "+check.Sanitize(s.o.From(r), 64)); err != nil {
		return err
	}
	s.o.Log.Info("alert silenced", "host", k.Host, "symptom", k.Symptom, "until", until, "from", s.o.From(r))
	s.board.mu.Lock()
	s.board.model = nil // the next page shows it
	s.board.mu.Unlock()
	http.Redirect(w, r, local(r.PostForm.Get("next")), http.StatusSeeOther)
	return nil
}
