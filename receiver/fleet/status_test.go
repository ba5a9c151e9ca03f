package fleet

import (
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/contacts"
	"cis490/receiver/roster"
)

// TestJoin_OneHealthForEachHost: the most urgent state that applies.
func TestJoin_OneHealthForEachHost(t *testing.T) {
	heard := func(ago time.Duration) *contacts.Contact { return &contacts.Contact{LastContact: now.Add(-ago)} }
	left := heard(time.Hour)
	left.Leaving = true
	failing := func(ago time.Duration) *contacts.Contact {
		c := heard(ago)
		c.Failing = []string{"outbox.oldest"}
		return c
	}
	alert := func(host string, silenced, quiet bool) Alert {
		return Alert{Host: host, Symptom: Silent, State: Firing, Silenced: silenced, Quiet: quiet}
	}
	all := Join(Known{
		Roster: []roster.Host{
			{Name: "sick", State: roster.Active},
			{Name: "gone", State: roster.Gone},
			{Name: "pending", State: roster.Pending},
			{Name: "never", State: roster.Active, EnrolledAt: now.Add(-16 * time.Minute)},
			{Name: "new", State: roster.Active, EnrolledAt: now.Add(-14 * time.Minute)},
		},
		Hosts: map[ident.Host]*contacts.Contact{
			"sick": failing(0), "gone": failing(0), "muted": failing(0), "fails": failing(0),
			"left": left, "late": failing(16 * time.Minute), "well": heard(14 * time.Minute),
		},
		Open: []Alert{
			alert("sick", true, false), alert("sick", false, false), alert("gone", false, false), alert("muted", true, false),
			alert("left", false, true), alert(Receiver, false, false),
		},
		Fresh: limits().Fresh(),
	}, now)
	want := []struct {
		name   ident.Host
		health Health
	}{
		{"sick", Sick},
		{"muted", Silenced},
		{"fails", Failing},
		{"late", NotReporting},
		{"never", NotReporting},
		{"well", Healthy},
		{"left", Off},
		{"new", Expected},
		{"pending", Expected},
		{"gone", Decommissioned},
	}
	if len(all) != len(want) {
		t.Fatalf("%d hosts, want %d", len(all), len(want))
	}
	for i, w := range want {
		if all[i].Name != w.name || all[i].Health != w.health {
			t.Errorf("%d: %s is %s, want %s is %s", i, all[i].Name, all[i].Health, w.name, w.health)
		}
	}
}
