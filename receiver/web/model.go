package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/roster"
)

// What a host is to the one who looks, sick ones first.
type state string

const (
	sick     state = "sick"     // an alert is open
	silenced state = "silenced" // every open alert of it is silenced
	quiet    state = "no word"  // not heard for longer than a few pings, and not judged yet
	healthy  state = "healthy"
	off      state = "off"      // left cleanly
	expected state = "expected" // its token was made, it has not enrolled
	gone     state = "decommissioned"
)

// order is the order of the rows, and of the filter's choices.
func order() []state { return []state{sick, silenced, quiet, healthy, off, expected, gone} }

// heardWithin is three pings.
const heardWithin = 16 * time.Minute

// model is the fleet at one moment; it is never changed once made.
type model struct {
	At        time.Time
	Hosts     []*hostView // ordered as they are shown
	byName    map[ident.Host]*hostView
	Alerts    []alertView // open ones, those of the receiver first
	Checked   time.Time   // when fleet-check last ran
	Count     map[state]int
	Open      int // alerts that are not silenced
	Missing   []string
	Receiver  contacts.Receiver
	Strangers []contacts.Knock
	Crowd     listen.Stats
	Free      int64
	Reserve   int64
	Counting  bool // the last 24 hours are still being counted
	Hours     [slotCount]uint32
	Episodes  uint64
	Bytes     int64
}

// hostView is one host as its row and page show it.
type hostView struct {
	Name     ident.Host
	State    state
	Roster   *roster.Host      // nil: not in the roster
	Contact  *contacts.Contact // nil: never heard
	Alerts   []alertView
	Hours    [slotCount]uint32
	Accepted time.Time
	CertEnds time.Time
	Offered  string
}

// alertView is an open alert.
type alertView struct {
	fleet.Alert
	Silenced bool
	Until    time.Time // of the silence; zero: until it resolves
	By       string
}

// lastRun is what fleet-check wrote, kept until it runs again.
type lastRun struct {
	at   time.Time
	last fleet.Last
}

func (s *Site) lastRun() (fleet.Last, error) {
	k, m := &s.board.last, fleet.Memory{FS: s.o.FS, Dir: s.o.DataDir, Spare: s.o.Spare}
	at := m.Ran()
	if !at.IsZero() && at.Equal(k.at) {
		return k.last, nil
	}
	last, err := m.Last()
	if err != nil {
		return last, err
	}
	k.at, k.last = at, last
	return last, nil
}

// look makes the model.
func (s *Site) look(now time.Time) (*model, error) {
	last, err := s.lastRun()
	if err != nil {
		return nil, err
	}
	all, err := s.o.Roster.All()
	if err != nil {
		return nil, err
	}
	silences, err := s.silences(now)
	if err != nil {
		return nil, err
	}
	book := s.o.Contacts()
	m := &model{
		At: now, byName: map[ident.Host]*hostView{}, Checked: last.At, Count: map[state]int{},
		Crowd:   s.o.Connections(),
		Missing: s.o.Missing(), Receiver: book.Receiver, Strangers: book.Strangers, Reserve: s.o.Reserve,
	}
	if space, ok := s.o.FS.(disk.Space); ok {
		if m.Free, err = space.Free(s.o.DataDir); err != nil {
			return nil, err
		}
	}
	for i := range all {
		m.host(all[i].Name).Roster = &all[i]
	}
	for name, c := range book.Hosts {
		m.host(name).Contact = c
	}
	for _, a := range last.Open {
		v := alertView{Alert: a}
		if x, ok := silences[a.Key()]; ok {
			v.Silenced, v.Until, v.By = true, x.Until, x.By
		} else if !a.Quiet {
			m.Open++
		}
		m.Alerts = append(m.Alerts, v)
		if h, err := ident.ParseHost(a.Host); err == nil {
			h := m.host(h)
			h.Alerts = append(h.Alerts, v)
		}
	}
	slices.SortStableFunc(m.Alerts, func(a, b alertView) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Since.Compare(b.Since), strings.Compare(a.Host, b.Host))
	})
	s.ingest.mu.Lock()
	m.Counting = !s.ingest.ready
	m.Hours, m.Episodes, m.Bytes = s.ingest.all.hours(s.ingest.slot)
	for name, t := range s.ingest.hosts {
		h := m.host(name)
		h.Hours, _, _ = t.hours(s.ingest.slot)
		if n := len(t.recent); n > 0 {
			h.Accepted = t.recent[n-1].When()
		}
	}
	s.ingest.mu.Unlock()
	for _, h := range m.Hosts {
		h.settle(now)
		h.Offered = s.o.Offered(h.Name)
		m.Count[h.State]++
	}
	place := map[state]int{}
	for i, st := range order() {
		place[st] = i
	}
	slices.SortFunc(m.Hosts, func(a, b *hostView) int {
		return cmp.Or(cmp.Compare(place[a.State], place[b.State]), strings.Compare(string(a.Name), string(b.Name)))
	})
	return m, nil
}

func rank(a alertView) int {
	switch {
	case a.Silenced:
		return 3
	case a.Quiet:
		return 2
	case a.Host == fleet.Receiver:
		return 0
	}
	return 1
}

func (m *model) host(name ident.Host) *hostView {
	h := m.byName[name]
	if h == nil {
		h = &hostView{Name: name}
		m.byName[name] = h
		m.Hosts = append(m.Hosts, h)
	}
	return h
}

// settle decides what the host is, from all that is known of it.
func (h *hostView) settle(now time.Time) {
	if c := h.Contact; c != nil {
		if c.LastAccepted.After(h.Accepted) {
			h.Accepted = c.LastAccepted
		}
		h.CertEnds = c.CertificateUntil
	}
	if h.Roster != nil && h.Roster.CertExpires.After(h.CertEnds) {
		h.CertEnds = h.Roster.CertExpires
	}
	loud := slices.ContainsFunc(h.Alerts, func(a alertView) bool { return !a.Silenced && !a.Quiet })
	hushed := slices.ContainsFunc(h.Alerts, func(a alertView) bool { return a.Silenced })
	left := h.Contact != nil && h.Contact.Leaving
	switch {
	case h.Roster != nil && h.Roster.State == roster.Gone:
		h.State = gone
	case loud:
		h.State = sick
	case hushed:
		h.State = silenced
	case left:
		h.State = off
	case h.Roster != nil && h.Roster.State == roster.Pending:
		h.State = expected
	case h.Contact == nil || now.Sub(h.Contact.LastContact) > heardWithin:
		h.State = quiet
	default:
		h.State = healthy
	}
}

// Version is what the host said that it runs.
func (h *hostView) Version() string {
	if h.Contact == nil {
		return ""
	}
	return check.Plain(h.Contact.Version, 40)
}

// Behind tells whether the host runs another version than it is offered.
func (h *hostView) Behind() bool {
	return h.Offered != "" && h.Version() != "" && h.Offered != h.Version()
}

// Backlog is what waits on the host.
func (h *hostView) Backlog() string {
	if h.Contact == nil || h.Contact.LastPing.IsZero() {
		return "–"
	}
	q := h.Contact.Queue
	out := fmt.Sprint(q.Waiting)
	if q.Held > 0 {
		out += fmt.Sprintf(" + %d held", q.Held)
	}
	if q.Quarantined > 0 {
		out += fmt.Sprintf(" + %d set aside", q.Quarantined)
	}
	return out
}

// Sum is how many episodes it brought in 24 hours.
func (h *hostView) Sum() (n uint64) {
	for _, c := range h.Hours {
		n += uint64(c)
	}
	return n
}
