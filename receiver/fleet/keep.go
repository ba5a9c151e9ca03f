package fleet

import (
	"maps"
	"slices"
	"strings"

	"cis490/internal/ident"
	"cis490/receiver/roster"
)

// carriedOver returns the firing alerts that were not found because their facts could
// not be read, with the details of the last run: a missing fact resolves nothing.
func (f *Facts) carriedOver(found []Finding, last []Alert) []Finding {
	var kept []Finding
	for _, k := range slices.SortedFunc(maps.Keys(f.Held), func(a, b Key) int {
		return strings.Compare(a.Host+" "+a.Symptom, b.Host+" "+b.Symptom)
	}) {
		held := f.Held[k]
		if !held.Firing || !f.unread(k) || slices.ContainsFunc(found, func(x Finding) bool { return x.Key() == k }) {
			continue
		}
		x := Finding{Host: k.Host, Symptom: k.Symptom, Since: held.Since, Quiet: held.Quiet, Detail: "its data cannot be read"}
		if i := slices.IndexFunc(last, func(a Alert) bool { return a.Key() == k }); i >= 0 {
			a := last[i]
			x.Detail, x.Fix, x.Reason = a.Detail, a.Fix, Reason{Code: a.Code, Text: a.Reason, Check: a.Check}
		}
		kept = append(kept, x)
	}
	return kept
}

// unread reports whether facts for judging an alert are missing.
func (f *Facts) unread(k Key) bool {
	if k.Host == Receiver {
		return f.Lost || f.Unread && k.Symptom == ClockWrong // all other symptoms come from its own checks
	}
	h := f.Hosts[ident.Host(k.Host)]
	switch {
	case h == nil:
		return f.Unread
	case h.Roster != nil && h.Roster.State == roster.Gone:
		return false
	}
	return f.Unread || h.Unread
}
