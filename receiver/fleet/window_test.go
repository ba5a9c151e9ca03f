package fleet

import (
	"iter"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// sinceIndex notes since when rows were read.
type sinceIndex struct {
	receiver.Log[receiver.Entry]
	since *[]time.Time
}

func (i sinceIndex) Since(from time.Time) iter.Seq2[receiver.Entry, error] {
	*i.since = append(*i.since, from)
	return i.Log.Since(from)
}

// TestGather_Window: a day's rows are read only where contacts lack the hosts' last episodes.
func TestGather_Window(t *testing.T) {
	l := Limits{SilentAfter: 30 * time.Minute, Lookback: 24 * time.Hour, NeverReported: time.Hour}
	day, recent := ago(l.Lookback), ago(11*time.Minute)
	whole := contacts.Contacts{
		BeganAt: ago(48 * time.Hour), WrittenAt: ago(time.Minute),
		Hosts: map[ident.Host]*contacts.Contact{"lab-01": {LastAccepted: ago(40 * time.Minute)}},
	}
	for name, c := range map[string]struct {
		change func(*contacts.Contacts)
		want   []time.Time
	}{
		"contacts of more than a day": {func(*contacts.Contacts) {}, []time.Time{recent}},
		"contacts begun within it":    {func(c *contacts.Contacts) { c.BeganAt = ago(23 * time.Hour) }, []time.Time{day}},
		"no contacts":                 {func(c *contacts.Contacts) { *c = contacts.Contacts{} }, []time.Time{day}},
		"written in the future":       {func(c *contacts.Contacts) { c.WrittenAt = ago(-time.Hour) }, []time.Time{day}},
		"the clock jumped": {func(c *contacts.Contacts) {
			c.Receiver.Jumps = []contacts.Jump{{At: ago(time.Hour), By: time.Hour}}
		}, []time.Time{day}},
		"serve does not write them": {func(c *contacts.Contacts) {
			c.WrittenAt = ago(5 * time.Hour)
		}, []time.Time{ago(5*time.Hour + 10*time.Minute)}},
		"they lack a new host's one episode": {func(c *contacts.Contacts) { delete(c.Hosts, "lab-01") }, []time.Time{recent, day}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.write(local.IndexFile, row("lab-01", ago(40*time.Minute)))
			s.write("episodes/lab-01/x", "")
			s.json(local.RosterFile, roster.Event{
				At: ago(2 * time.Hour), Host: "lab-01", Event: roster.Enrolled, Expires: now.Add(20 * 24 * time.Hour),
			})
			book := whole
			book.Hosts = map[ident.Host]*contacts.Contact{"lab-01": whole.Hosts["lab-01"]}
			c.change(&book)
			s.json(receiver.ContactsDoc, book)
			var since []time.Time
			b := onDisk(s.dir)
			b.Index = sinceIndex{b.Index, &since}
			f, err := Gather(Source{Backend: b, Roster: local.Roster(disk.OS{}, s.dir)}, now, l)
			if err != nil {
				t.Fatal(err)
			}
			if len(since) != len(c.want) {
				t.Fatalf("rows read since %v, want %v", since, c.want)
			}
			for i := range since {
				if !since[i].Equal(c.want[i]) {
					t.Errorf("rows read since %v, want %v", since, c.want)
				}
			}
			if f.Hosts["lab-01"].Accepted.IsZero() {
				t.Error("its episode is not known")
			}
		})
	}
}
