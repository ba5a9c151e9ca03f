package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/contacts"
	"cis490/receiver/roster"
)

// Health is a host's state, in one word.
type Health string

// The states, the most urgent first. The first one that applies wins, but Decommissioned
// takes precedence.
const (
	Sick           Health = "sick"          // an alert is open that people are notified of
	Silenced       Health = "silenced"      // its open alerts are muted
	Failing        Health = "failing"       // a hard check fails by its newest ping or report, but no alert is open yet
	NotReporting   Health = "not reporting" // several pings are missing, but no alert is open yet
	Healthy        Health = "healthy"
	Off            Health = "off"      // shut down cleanly
	Expected       Health = "expected" // has a join token and has not enrolled, or enrolled just now and its first contact is due
	Decommissioned Health = "decommissioned"
)

// Healths returns the states in their order.
func Healths() []Health {
	return []Health{Sick, Silenced, Failing, NotReporting, Healthy, Off, Expected, Decommissioned}
}

// Status joins all that is known of a host now. fleet-check, the dashboard, the API and
// the commands show it.
type Status struct {
	Name    ident.Host
	Health  Health
	Roster  *roster.Host      // nil: not in the roster
	Contact *contacts.Contact // nil: it has not contacted the receiver
	Alerts  []Alert           // open ones
	Failing []string          // ids of the failing hard checks, if Health is Failing
	Offered string            // version that it should run; empty: not known
	place   int               // of Health, in their order
}

// Known is the input of Join.
type Known struct {
	Roster  []roster.Host
	Hosts   map[ident.Host]*contacts.Contact
	Shipped []ident.Host                                 // hosts with recent rows in the index
	Open    []Alert                                      // with the present Silenced
	Offered func(goos, arch string, h ident.Host) string // nil: not known
	Fresh   time.Duration                                // Limits.Fresh
}

// Join returns the status of each host in the roster, the contacts, the index or the
// alerts, ordered by Health and name.
func Join(k Known, now time.Time) []*Status {
	by := make(map[ident.Host]*Status, len(k.Roster))
	host := func(name ident.Host) *Status {
		if by[name] == nil {
			by[name] = &Status{Name: name}
		}
		return by[name]
	}
	for i := range k.Roster {
		host(k.Roster[i].Name).Roster = &k.Roster[i]
	}
	for name, c := range k.Hosts {
		host(name).Contact = c
	}
	for _, name := range k.Shipped {
		host(name)
	}
	for _, a := range k.Open {
		if name, err := ident.ParseHost(a.Host); err == nil {
			host(name).Alerts = append(host(name).Alerts, a)
		}
	}
	all := slices.Collect(maps.Values(by))
	for _, s := range all {
		if s.Health = s.judge(now, k.Fresh); s.Health == Failing {
			s.Failing = s.Contact.Failing
		}
		s.place = slices.Index(Healths(), s.Health)
		if k.Offered != nil && s.Contact != nil {
			s.Offered = k.Offered(s.Contact.OS, s.Contact.Arch, s.Name)
		}
	}
	slices.SortFunc(all, func(a, b *Status) int {
		return cmp.Or(cmp.Compare(a.place, b.place), strings.Compare(string(a.Name), string(b.Name)))
	})
	return all
}

func (s *Status) judge(now time.Time, fresh time.Duration) Health {
	loud := slices.ContainsFunc(s.Alerts, Alert.Notify)
	muted := slices.ContainsFunc(s.Alerts, func(a Alert) bool { return a.Silenced })
	switch {
	case s.Roster != nil && s.Roster.State == roster.Gone:
		return Decommissioned
	case loud:
		return Sick
	case muted:
		return Silenced
	case s.Contact != nil && s.Contact.Leaving:
		return Off
	case s.Roster != nil && (s.Roster.State == roster.Pending || s.firstContactDue(now, fresh)):
		return Expected
	case s.Contact == nil || now.Sub(s.Contact.LastContact) > fresh:
		return NotReporting
	case len(s.Contact.Failing) > 0:
		return Failing
	}
	return Healthy
}

// firstContactDue reports whether the host enrolled less than fresh ago and has never
// contacted the receiver.
func (s *Status) firstContactDue(now time.Time, fresh time.Duration) bool {
	return s.Contact == nil && now.Sub(s.Roster.EnrolledAt) < fresh
}

// Symptoms returns the host's open alerts by name.
func (s *Status) Symptoms() []string {
	var all []string
	for _, a := range s.Alerts {
		all = append(all, a.Symptom)
	}
	return all
}
