package web

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"

	"cis490/internal/check"
	"cis490/receiver/fleet"
)

// filter selects and orders the hosts of the fleet page, as its query says.
type filter struct {
	Query, State, Symptom, Version, Tag, Cause string
	Sort                                       string // a column; with "-" in front the largest first
}

func filterOf(v url.Values) filter {
	get := func(key string, most int) string { return check.Sanitize(strings.TrimSpace(v.Get(key)), most) }
	return filter{
		Query: get("q", 80), State: get("state", 20), Symptom: get("symptom", 40), Version: get("version", 40), Tag: get("tag", 40),
		Cause: get("cause", 120), Sort: get("sort", 20),
	}
}

// Active reports whether the filter leaves hosts out.
func (f filter) Active() bool { return f != filter{Sort: f.Sort} }

// values returns the filter as a query.
func (f filter) values() url.Values {
	v := url.Values{}
	for key, value := range map[string]string{
		"q": f.Query, "state": f.State, "symptom": f.Symptom, "version": f.Version, "tag": f.Tag, "cause": f.Cause, "sort": f.Sort,
	} {
		if value != "" {
			v.Set(key, value)
		}
	}
	return v
}

// matches reports whether a host is selected. Decommissioned hosts are selected by their
// state only.
func (f filter) matches(h *hostView) bool {
	alert := func(is func(alertView) bool) bool { return slices.ContainsFunc(h.Alerts, is) }
	switch {
	case f.State != "" && string(h.Health) != f.State, f.State == "" && h.Health == fleet.Decommissioned,
		f.Version != "" && h.Version() != f.Version,
		f.Tag != "" && !slices.Contains(h.Notes.Tags, f.Tag) && h.Notes.Room != f.Tag,
		f.Symptom != "" && !alert(func(a alertView) bool { return a.Symptom == f.Symptom }),
		f.Cause != "" && !alert(func(a alertView) bool { return causeKey(a.Alert) == f.Cause }):
		return false
	case f.Query == "" || strings.Contains(string(h.Name), strings.ToLower(f.Query)):
		return true
	}
	has := func(text string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(f.Query)) }
	return has(h.Version()) || slices.ContainsFunc(h.Notes.Tags, has) || has(h.Notes.Room) || has(h.Notes.Note) ||
		alert(func(a alertView) bool { return has(a.Symptom) || has(a.Reason) })
}

// columns compare hosts by what a column shows.
func columns() map[string]func(a, b *hostView) int {
	return map[string]func(a, b *hostView) int{
		"name":        func(a, b *hostView) int { return cmp.Compare(a.Name, b.Name) },
		"last":        func(a, b *hostView) int { return a.Accepted.Compare(b.Accepted) },
		"day":         func(a, b *hostView) int { return cmp.Compare(a.Sum(), b.Sum()) },
		"backlog":     func(a, b *hostView) int { return cmp.Compare(a.waiting(), b.waiting()) },
		"version":     func(a, b *hostView) int { return cmp.Compare(a.Version(), b.Version()) },
		"certificate": func(a, b *hostView) int { return a.CertEnds.Compare(b.CertEnds) },
	}
}

// sort orders hosts by the filter's column; without one they stay, sick ones first.
func (f filter) sort(hosts []*hostView) {
	name, down := strings.CutPrefix(f.Sort, "-")
	by := columns()[name]
	if by == nil {
		return
	}
	slices.SortStableFunc(hosts, func(a, b *hostView) int {
		if down {
			a, b = b, a
		}
		return by(a, b)
	})
}

// column is a header of the table of hosts.
type column struct {
	Title, Link, Order string // Order is aria-sort's
}

// headers returns the columns of the table, each with the link that sorts by it.
func (f filter) headers() []column {
	all := []column{
		{Title: "Host", Link: "name"},
		{Title: "State", Link: "state"},
		{Title: "Last episode", Link: "last"},
		{Title: "24 h", Link: "day"},
		{Title: "Backlog", Link: "backlog"},
		{Title: "Version", Link: "version"},
		{Title: "Certificate", Link: "certificate"},
	}
	for i := range all {
		next, name := f, all[i].Link
		switch {
		case name == "state": // the order without any other
			next.Sort = ""
			if columns()[strings.TrimPrefix(f.Sort, "-")] == nil {
				all[i].Order = "ascending"
			}
		case f.Sort == name:
			next.Sort, all[i].Order = "-"+name, "ascending"
		case f.Sort == "-"+name:
			next.Sort, all[i].Order = name, "descending"
		default:
			next.Sort = name
		}
		all[i].Link = "/?" + next.values().Encode() + "#hosts-title"
	}
	return all
}

// maxChoices bounds the values that a list of the filter offers.
const maxChoices = 100

// choices returns the symptoms, versions and tags of the fleet, ordered.
func (m *model) choices() (symptoms, versions, tags []string) {
	sets := [3]map[string]bool{{}, {}, {}}
	reported := map[string]bool{}
	for _, h := range m.Hosts {
		if h.Contact != nil {
			reported[h.Contact.Version] = true
		}
		for _, a := range h.Alerts {
			sets[0][a.Symptom] = true
		}
		for _, t := range append([]string{h.Notes.Room}, h.Notes.Tags...) {
			if t != "" {
				sets[2][t] = true
			}
		}
	}
	for v := range reported {
		if v = check.Sanitize(v, maxVersion); v != "" {
			sets[1][v] = true
		}
	}
	sorted := func(set map[string]bool) []string {
		all := slices.Sorted(maps.Keys(set))
		return all[:min(len(all), maxChoices)]
	}
	return sorted(sets[0]), sorted(sets[1]), sorted(sets[2])
}
