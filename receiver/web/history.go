package web

import (
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/receiver"
	"cis490/receiver/fleet"
)

// Bounds of reading past alerts, and of showing them.
const (
	maxAlertRows = 300_000
	historyTime  = 2 * time.Second
	maxSpans     = 200 // that a page lists
	maxStrips    = 100 // hosts whose states a page draws
)

// span is the time in which an alert was open.
type span struct {
	Host, Symptom string
	Since         time.Time
	Until         time.Time // zero: it is open
	Reason        string
}

// Length returns how long the alert was open, by now at the latest.
func (x span) Length(now time.Time) string {
	return machine.HumanDuration(max(0, cmp.Or(x.Until, now).Sub(x.Since)))
}

// period is how far back a page of the past goes.
type period struct {
	Name   string
	length time.Duration
	slots  int
}

func periods() []period {
	const day = 24 * time.Hour
	return []period{{"24h", day, 24}, {"7d", 7 * day, 28}, {"30d", 30 * day, 30}}
}

// periodOf returns the period of a query, or that of a name.
func periodOf(r *http.Request, usual string) period {
	name := r.URL.Query().Get("range")
	for _, want := range []string{name, usual} {
		for _, p := range periods() {
			if p.Name == want {
				return p
			}
		}
	}
	return periods()[0]
}

// past is the alerts of a period, newest first.
type past struct {
	period
	From, At time.Time
	Spans    []span
	Reached  time.Time // how far back the log was read; zero: far enough
}

// readPast returns when alerts were open in a period: of one host, or of all if host is
// empty. The hourly rows of an alert that lasts are one span.
func (s *Site) readPast(r *http.Request, host string, p period, m *model) (past, error) {
	out := past{period: p, At: m.At, From: m.At.Add(-p.length)}
	type key struct {
		fleet.Key
		since int64
	}
	open := map[key]bool{}
	for _, a := range m.Alerts {
		open[key{a.Key(), a.Since.Unix()}] = true
	}
	found := map[key]int{}
	limit, rows := time.Now().Add(historyTime), 0
	for f, err := range s.o.Backend.Alerts.Before(receiver.Query{Host: host}) {
		if err != nil {
			return out, err
		}
		if !f.At.IsZero() && f.At.Before(out.From) {
			break
		}
		if rows++; rows > maxAlertRows || time.Now().After(limit) || r.Context().Err() != nil {
			out.Reached = f.At
			break
		}
		a := f.Row
		if !f.Match || a.Symptom == "" {
			continue
		}
		k := key{a.Key(), a.Since.Unix()}
		i, known := found[k]
		if !known {
			i = len(out.Spans)
			found[k] = i
			x := span{Host: check.Sanitize(a.Host, 64), Symptom: check.Sanitize(a.Symptom, 40), Since: a.Since}
			if a.State == fleet.Resolved || !open[k] {
				x.Until = a.When()
			}
			out.Spans = append(out.Spans, x)
		}
		if out.Spans[i].Reason == "" {
			out.Spans[i].Reason = check.Sanitize(a.Reason, 300)
		}
	}
	slices.SortStableFunc(out.Spans, func(a, b span) int { return b.Since.Compare(a.Since) })
	return out, nil
}

// strip is a line of the grid: how much of each slot a host, or a symptom, had an open alert.
type strip struct {
	Name  string
	Cells template.HTML
	Total time.Duration
}

// Time returns the total in words.
func (x strip) Time() string { return machine.HumanDuration(x.Total) }

// Link reports whether the name is a host that has a page.
func (x strip) Link() bool { _, err := ident.ParseHost(x.Name); return err == nil }

// strips returns a strip for each host or, of one host, for each symptom. Those with the
// longest time come first.
func (p past) strips(name func(span) string) []strip {
	by := map[string][]span{}
	for _, x := range p.Spans {
		by[name(x)] = append(by[name(x)], x)
	}
	var all []strip
	for name, spans := range by {
		slots := make([]time.Duration, p.slots)
		for i := range slots {
			slots[i] = p.covered(spans, i)
		}
		x := strip{Name: name}
		for _, d := range slots {
			x.Total += d
		}
		x.Cells = cells(slots, p.length/time.Duration(p.slots))
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b strip) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), strings.Compare(a.Name, b.Name))
	})
	return all
}

// covered returns for how long of a slot at least one of the spans was open.
func (p past) covered(spans []span, slot int) (sum time.Duration) {
	width := p.length / time.Duration(p.slots)
	from := p.From.Add(time.Duration(slot) * width)
	end := from.Add(width)
	ordered := slices.SortedFunc(slices.Values(spans), func(a, b span) int { return a.Since.Compare(b.Since) })
	for _, x := range ordered {
		begin, until := x.Since, cmp.Or(x.Until, p.At)
		if begin.Before(from) {
			begin = from
		}
		if until.After(end) {
			until = end
		}
		if until.After(begin) {
			sum += until.Sub(begin)
			from = until
		}
	}
	return sum
}

// cells draws slots as squares in five steps from none to all. It holds digits only.
func cells(slots []time.Duration, width time.Duration) template.HTML {
	var levels [5]strings.Builder
	for i, d := range slots {
		level := 0
		if d > 0 {
			level = min(1+int(4*d/width), 4)
		}
		fmt.Fprintf(&levels[level], "M%d 0h9v14h-9z", 10*i)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="heat" viewBox="0 0 %d 14" preserveAspectRatio="none" aria-hidden="true">`, 10*len(slots))
	for i := range levels {
		fmt.Fprintf(&b, `<path class="l%d" d="%s"/>`, i, levels[i].String())
	}
	return template.HTML(b.String() + "</svg>") //nolint:gosec // digits
}

type alertsPage struct {
	Past    past
	Periods []period
	Causes  []*cause
	Strips  []strip
	Hosts   int // with an alert in the period
	Listed  []span
	More    int
}

// alerts shows the open alerts, when each host had alerts, and the past ones.
func (s *Site) alerts(w http.ResponseWriter, r *http.Request) error {
	m, err := s.model()
	if err != nil {
		return err
	}
	p := alertsPage{Periods: periods(), Causes: m.Causes}
	if p.Past, err = s.readPast(r, "", periodOf(r, "24h"), m); err != nil {
		return err
	}
	p.Strips = p.Past.strips(func(x span) string { return x.Host })
	p.Hosts = len(p.Strips)
	p.Strips = p.Strips[:min(len(p.Strips), maxStrips)]
	p.Listed = p.Past.Spans[:min(len(p.Past.Spans), maxSpans)]
	p.More = len(p.Past.Spans) - len(p.Listed)
	return s.render(w, r, http.StatusOK, "alerts", "Alerts", p)
}
