package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"cis490/internal/check"
	"cis490/receiver/fleet"
)

// perPage bounds a page: 2,000 rows are no page that a phone shows.
const perPage = 250

type fleetPage struct {
	*model
	Query    string
	State    string
	States   []fleet.Health
	Rows     []*hostView
	Found    int
	From, To int
	Prev     string
	Next     string
	Shown    []alertView // the first of the open alerts
	More     int
}

// shownAlerts is how many open alerts the fleet page shows; each is on its
// host's page as well.
const shownAlerts = 20

// fleet shows one row per host.
func (s *Site) fleet(w http.ResponseWriter, r *http.Request) error {
	m, err := s.model()
	if err != nil {
		return err
	}
	q := r.URL.Query()
	p := fleetPage{model: m, Query: check.Sanitize(strings.TrimSpace(q.Get("q")), 80), State: check.Sanitize(q.Get("state"), 20), States: fleet.Healths()}
	var rows []*hostView
	for _, h := range m.Hosts {
		if p.shows(h) {
			rows = append(rows, h)
		}
	}
	first, err := strconv.Atoi(q.Get("from"))
	if err != nil {
		first = 0
	}
	first = max(0, min(first, max(0, len(rows)-1)))
	last := min(first+perPage, len(rows))
	p.Rows, p.Found, p.From, p.To = rows[first:last], len(rows), first+1, last
	if first > 0 {
		p.Prev = p.link(max(0, first-perPage))
	}
	if last < len(rows) {
		p.Next = p.link(last)
	}
	p.Shown = m.Alerts[:min(len(m.Alerts), shownAlerts)]
	p.More = len(m.Alerts) - len(p.Shown)
	return s.render(w, r, http.StatusOK, "fleet", "Fleet", p)
}

// shows tells whether a host is asked for. Decommissioned ones are only shown
// when they are.
func (p *fleetPage) shows(h *hostView) bool {
	if p.State != "" && string(h.Health) != p.State || p.State == "" && h.Health == fleet.Decommissioned {
		return false
	}
	if p.Query == "" || strings.Contains(string(h.Name), strings.ToLower(p.Query)) {
		return true
	}
	has := func(text string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(p.Query)) }
	return has(h.Version()) || slices.ContainsFunc(h.Alerts, func(a alertView) bool { return has(a.Symptom) || has(a.Reason) })
}

func (p *fleetPage) link(from int) string {
	v := url.Values{"from": {strconv.Itoa(from)}}
	if p.Query != "" {
		v.Set("q", p.Query)
	}
	if p.State != "" {
		v.Set("state", p.State)
	}
	return "/?" + v.Encode()
}
