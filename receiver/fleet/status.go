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

// Health is the one word for how a host is.
type Health string

// The words, the most urgent first. A host is the first one that fits, except that a
// decommissioned host is nothing else.
const (
	Sick           Health = "sick"          // an alert is open that people are notified of
	Silenced       Health = "silenced"      // its open alerts are muted
	NotReporting   Health = "not reporting" // no contact for longer than a few pings, and not an alert yet
	Healthy        Health = "healthy"
	Off            Health = "off"      // left cleanly
	Expected       Health = "expected" // its token was made, it has not enrolled
	Decommissioned Health = "decommissioned"
)

// Healths returns the words in their order.
func Healths() []Health {
	return []Health{Sick, Silenced, NotReporting, Healthy, Off, Expected, Decommissioned}
}

// Status is all that is known of a host now: what fleet-check, the dashboard, the API
// and the commands show of it.
type Status struct {
	Name    ident.Host
	Health  Health
	Roster  *roster.Host      // nil: not in the roster
	Contact *contacts.Contact // nil: it has not contacted the receiver
	Alerts  []Alert           // open ones
	Offered string            // version that it should run; empty: none is known
}

// Known is what a Status is joined from.
type Known struct {
	Roster  []roster.Host
	Hosts   map[ident.Host]*contacts.Contact
	Shipped []ident.Host            // hosts with rows of late in the index
	Open    []Alert                 // with Silenced as it is now
	Offered func(ident.Host) string // nil: none is known
	Fresh   time.Duration           // how old a contact may be to speak for now: Limits.Fresh
}

// Join returns the status of each host that the roster, the contacts, the index or an alert
// has, the most urgent first.
func Join(k Known, now time.Time) []*Status {
	by := map[ident.Host]*Status{}
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
	place := map[Health]int{}
	for i, h := range Healths() {
		place[h] = i
	}
	all := slices.Collect(maps.Values(by))
	for _, s := range all {
		s.Health = s.judge(now, k.Fresh)
		if k.Offered != nil {
			s.Offered = k.Offered(s.Name)
		}
	}
	slices.SortFunc(all, func(a, b *Status) int {
		return cmp.Or(cmp.Compare(place[a.Health], place[b.Health]), strings.Compare(string(a.Name), string(b.Name)))
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
	case s.Roster != nil && s.Roster.State == roster.Pending:
		return Expected
	case s.Contact == nil || now.Sub(s.Contact.LastContact) > fresh:
		return NotReporting
	}
	return Healthy
}

// Symptoms returns the host's open alerts by name.
func (s *Status) Symptoms() []string {
	var all []string
	for _, a := range s.Alerts {
		all = append(all, a.Symptom)
	}
	return all
}
