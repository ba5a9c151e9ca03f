package contacts

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// random returns what a receiver may know of a host after some of its requests.
func random(r *rand.Rand, start time.Time) *Contact {
	c := &Contact{}
	at := func() time.Time { return start.Add(time.Duration(1+r.IntN(1000)) * time.Second) }
	c.LastContact = at()
	if r.IntN(3) > 0 {
		c.LastPing, c.Version = at(), fmt.Sprint("v", r.IntN(9))
		if c.Leaving = r.IntN(4) == 0; c.Leaving {
			c.LeavingAt = c.LastPing
		} else {
			c.OS = "linux"
		}
	}
	for range r.IntN(4) {
		t := at()
		c.Boots = mergeBoots(c.Boots, []Boot{{fmt.Sprint("boot", r.IntN(5)), t, t.Add(time.Minute)}})
		c.Verified = mergeFailures(c.Verified, []AuthFailure{{At: t, Since: t, Count: 1, Kind: wire.Kind(fmt.Sprint(r.IntN(4)))}})
	}
	if r.IntN(2) == 0 {
		c.LastAccepted = at()
	}
	if r.IntN(2) == 0 {
		c.LastRefused = &Refused{At: at(), Status: 412}
		if c.LastRefused.At.After(c.LastAccepted) {
			c.RefusedSince, c.RefusedCount = c.LastRefused.At, uint64(1+r.IntN(5))
		}
	}
	return c
}

// TestMerge: receivers that learn the same, in any order and however often, know the same.
func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	text := func(c *Contact) string {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for range 2000 {
		a, b := random(r, start), random(r, start)
		if a.LastContact.Equal(b.LastContact) || a.LastPing.Equal(b.LastPing) {
			continue // one clock gives each request a time of its own
		}
		ab, ba := merge(a, b), merge(b, a)
		if text(ab) != text(ba) {
			t.Fatalf("the order matters:\n%s\n%s\nof\n%s\n%s", text(ab), text(ba), text(a), text(b))
		}
		if again := merge(merge(ab, a), b); text(again) != text(ab) {
			t.Fatalf("again changes it:\n%s\n%s", text(ab), text(again))
		}
	}
}

// TestMerge_BackAfterItLeft: one receiver saw the host leave, another one its return.
func TestMerge_BackAfterItLeft(t *testing.T) {
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	left := &Contact{LastContact: at, LastPing: at, Leaving: true, LeavingAt: at}
	back := &Contact{LastContact: at.Add(time.Hour), LastPing: at.Add(time.Hour), OS: "linux"}
	c := merge(left, back)
	if c.Leaving || !c.BackAt.Equal(at.Add(time.Hour)) {
		t.Errorf("%+v", c)
	}
	later := merge(c, &Contact{LastContact: at.Add(2 * time.Hour), LastPing: at.Add(2 * time.Hour), OS: "linux"})
	if !later.BackAt.Equal(at.Add(time.Hour)) {
		t.Errorf("it came back at %s", later.BackAt)
	}
}

// TestUnavailable: the fleet is without receiver only while none was ready.
func TestUnavailable(t *testing.T) {
	at := func(m int) time.Time { return time.Date(2026, 5, 1, 0, m, 0, 0, time.UTC) }
	book := func(began, written int, ready bool, outages ...Span) Contacts {
		return Contacts{BeganAt: at(began), WrittenAt: at(written), Receiver: Receiver{Ready: ready, Outages: outages}}
	}
	now := at(60)
	type books = []Contacts
	for what, c := range map[string]struct {
		books
		want []Span
	}{
		"both ready": {books{book(0, 60, true), book(10, 60, true)}, nil},
		"one died":   {books{book(0, 20, true), book(10, 60, true)}, nil},
		"both died":  {books{book(0, 20, true), book(10, 30, true)}, []Span{{From: at(30)}}},
		"one before the other began": {
			books{book(0, 60, true, Span{at(5), at(20)}), book(10, 60, true, Span{at(25), at(30)})}, []Span{{at(5), at(10)}},
		},
		"both for a while": {
			books{book(0, 60, true, Span{at(20), at(30)}), book(0, 60, true, Span{at(25), at(40)})}, []Span{{at(25), at(30)}},
		},
		"it lasts":   {books{book(0, 60, false, Span{From: at(50)}), book(0, 60, false, Span{From: at(40)})}, []Span{{From: at(50)}}},
		"none began": {},
	} {
		if got := unavailable(c.books, now); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

// TestAdjust: what a receiver with a wrong clock publishes has the right time elsewhere.
func TestAdjust(t *testing.T) {
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	c := Contacts{WrittenAt: at.Add(20 * time.Minute), Hosts: map[ident.Host]*Contact{"lab-a": {LastPing: at.Add(19 * time.Minute)}}}
	c.adjust(-20*time.Minute, at)
	if got := c.Hosts["lab-a"].LastPing; !got.Equal(at.Add(-time.Minute)) {
		t.Errorf("the ping was at %s", got)
	}
}
