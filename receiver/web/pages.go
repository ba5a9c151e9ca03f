package web

import (
	"net/http"
	"strconv"

	"cis490/receiver/fleet"
)

// Bounds of the fleet page: a phone cannot show 2,000 rows, and size and time must not
// depend on the fleet.
const (
	perPage     = 250
	shownCauses = 8
)

type fleetPage struct {
	*model
	filter
	States                   []fleet.Health
	Symptoms, Versions, Tags []string
	Headers                  []column
	Rows                     []*hostView
	Found, First, Last       int // hosts that match, and the first and last shown
	Prev, Next               string
	Shown                    []*cause // the first causes of open alerts
	More                     int      // causes that are not shown
}

// fleet shows the open alerts by cause, and one row per host.
func (s *Site) fleet(w http.ResponseWriter, r *http.Request) error {
	m, err := s.model()
	if err != nil {
		return err
	}
	q := r.URL.Query()
	p := fleetPage{model: m, filter: filterOf(q), States: fleet.Healths()}
	p.Symptoms, p.Versions, p.Tags = m.choices()
	p.Headers = p.headers()
	var rows []*hostView
	for _, h := range m.Hosts {
		if p.matches(h) {
			rows = append(rows, h)
		}
	}
	p.sort(rows)
	first, err := strconv.Atoi(q.Get("from"))
	if err != nil {
		first = 0
	}
	first = max(0, min(first, max(0, len(rows)-1)))
	last := min(first+perPage, len(rows))
	p.Rows, p.Found, p.First, p.Last = rows[first:last], len(rows), first+1, last
	if first > 0 {
		p.Prev = p.page(max(0, first-perPage))
	}
	if last < len(rows) {
		p.Next = p.page(last)
	}
	p.Shown = m.Causes[:min(len(m.Causes), shownCauses)]
	p.More = len(m.Causes) - len(p.Shown)
	return s.render(w, r, http.StatusOK, "fleet", "Fleet", p)
}

func (p *fleetPage) page(from int) string {
	v := p.values()
	v.Set("from", strconv.Itoa(from))
	return "/?" + v.Encode() + "#hosts-title"
}
