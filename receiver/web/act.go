package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/fleet"
)

// Silence mutes the notifications for an alert.
type Silence struct {
	Until time.Time // zero: until the alert resolves
	By    string
}

// Silences stores silences durably.
type Silences interface {
	// Active returns those that hold at a time.
	Active(now time.Time) (map[fleet.Key]Silence, error)
	// Silence mutes alerts, all of them or none; until may be zero.
	Silence(all []fleet.Key, until time.Time, by string) error
	// End ends the silences of alerts.
	End(all []fleet.Key, by string) error
}

func (s *Site) silences(now time.Time) (map[fleet.Key]Silence, error) {
	if s.o.Silences == nil {
		return nil, nil
	}
	return s.o.Silences.Active(now)
}

// act does what a form asks for: to the alerts of a cause, to one alert, or to all alerts of
// the selected hosts.
func (s *Site) act(w http.ResponseWriter, r *http.Request) error {
	m, err := s.model()
	if err != nil {
		return err
	}
	do := r.PostForm.Get("do")
	switch do {
	case "silence", "unsilence":
	case "test-notify":
		return s.testNotify(w, r)
	case "decommission", "token":
		return s.commands(w, r, m, do)
	default:
		return wire.NewProblem(wire.Malformed, "%.20q is not an action of this page", check.Sanitize(do, 20))
	}
	if s.o.Silences == nil {
		return wire.NewProblem(wire.NotFound, "this receiver keeps no silences")
	}
	keys := m.selected(r.PostForm, do == "unsilence")
	if len(keys) == 0 {
		return wire.NewProblem(wire.NotFound, "the selection has no open alert for this action: it may have resolved. Select hosts with alerts")
	}
	by := Holder(r) + " on the dashboard, from " + check.Sanitize(s.o.From(r), 64)
	if do == "unsilence" {
		if err := s.o.Silences.End(keys, by); err != nil {
			return err
		}
	} else {
		until, err := s.until(r.PostForm.Get("for"))
		if err != nil {
			return err
		}
		if err := s.o.Silences.Silence(keys, until, by); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if do == "unsilence" {
			s.o.Log.Info("alert unsilenced", "host", k.Host, "symptom", k.Symptom, "by", Holder(r), "from", s.o.From(r))
			continue
		}
		s.o.Log.Info("alert silenced", "host", k.Host, "symptom", k.Symptom, "for", check.Sanitize(r.PostForm.Get("for"), 10),
			"by", Holder(r), "from", s.o.From(r))
	}
	s.forget(m)
	http.Redirect(w, r, local(r.PostForm.Get("next")), http.StatusSeeOther)
	return nil
}

// testNotify sends test notifications and shows which were delivered.
func (s *Site) testNotify(w http.ResponseWriter, r *http.Request) error {
	if s.o.TestNotify == nil {
		return wire.NewProblem(wire.NotFound, "this receiver cannot send notifications")
	}
	s.o.Log.Info("notifications tested", "by", Holder(r), "from", s.o.From(r))
	return s.render(w, r, http.StatusOK, "sent", "Test notifications", s.o.TestNotify(r.Context()))
}

// until returns when a silence ends that begins now; zero: when its alert resolves.
func (s *Site) until(length string) (time.Time, error) {
	switch length {
	case "":
		return time.Time{}, nil
	case "1h", "24h", "168h":
		d, err := time.ParseDuration(length)
		return s.o.Now().Add(d), err
	}
	return time.Time{}, wire.NewProblem(wire.Malformed, "duration %.20q: want 1h, 24h or 168h", check.Sanitize(length, 20))
}

// selected returns the open alerts that a form names and that are silenced, or not.
func (m *model) selected(form map[string][]string, silenced bool) (keys []fleet.Key) {
	first := func(name string) string { return strings.Join(form[name][:min(1, len(form[name]))], "") }
	cause, symptom, hosts := first("cause"), first("symptom"), form["host"]
	for _, a := range m.Alerts {
		if a.Silenced == silenced && (cause != "" && causeKey(a.Alert) == cause && len(hosts) == 0 ||
			slices.Contains(hosts, a.Host) && (symptom == "" || a.Symptom == symptom)) {
			keys = append(keys, a.Key())
		}
	}
	return keys
}

// commandPage shows what root runs.
type commandPage struct {
	Title, What string
	Lines       []string
}

// commands shows the commands that change who belongs to the fleet. The page does not run
// them: only root may ask the authority.
func (s *Site) commands(w http.ResponseWriter, r *http.Request, m *model, do string) error {
	var names []string
	for _, text := range append(strings.Fields(r.PostForm.Get("name")), r.PostForm["host"]...) {
		h, err := ident.ParseHost(text)
		if err != nil {
			return wire.NewProblem(wire.Malformed, "%s", err)
		}
		if do == "decommission" && m.byName[h] == nil {
			return wire.NewProblem(wire.NotFound, "this receiver knows no host %s", h)
		}
		names = append(names, string(h))
	}
	if len(names) == 0 {
		return wire.NewProblem(wire.Malformed, "no host is selected: go back and select one")
	}
	p := commandPage{
		Title: "Decommission " + count(len(names), "host"),
		What:  "The hosts are rejected from their next request on.",
		Lines: []string{
			"sudo cis490 host decommission " + strings.Join(names, " "),
		},
	}
	if do == "token" {
		p = commandPage{
			Title: "Add " + count(len(names), "host"),
			What:  "Each command prints a join token and what to paste on the new host.",
			Lines: []string{
				"sudo cis490 token create " + strings.Join(names, " "),
			},
		}
	}
	return s.render(w, r, http.StatusOK, "command", p.Title, p)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
