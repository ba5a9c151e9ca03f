package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
)

// model is the fleet at one moment. Nothing changes it after it is built.
type model struct {
	At       time.Time
	Hosts    []*hostView // ordered as they are shown
	byName   map[ident.Host]*hostView
	Alerts   []alertView // open ones, those of the receiver first
	Causes   []*cause    // of the open alerts
	Checked  time.Time   // when fleet-check last ran
	Count    map[fleet.Health]int
	Open     int      // alerts that are not silenced
	Missing  []string // why the receiver does not accept episodes
	Receiver contacts.Receiver
	// Receivers are all of several.
	Receivers []cluster.Member
	Unknown   []contacts.AuthFailure
	Listener  listen.Stats
	Free      int64
	Reserve   int64
	// SilentAfter is how long after its last episode a host's alert fires.
	SilentAfter time.Duration
	Counting    bool // the last 24 hours are still being counted
	Hours       [slotCount]uint32
	Episodes    uint64
	Bytes       int64
}

// maxVersion is the longest version that is shown, in characters.
const maxVersion = 40

// hostView is a host as its row and page show it.
type hostView struct {
	*fleet.Status
	Alerts   []alertView
	Notes    hostNotes
	Hours    [slotCount]uint32
	Accepted time.Time
	CertEnds time.Time
}

// alertView is an open alert.
type alertView struct {
	fleet.Alert
	Silenced bool
	Until    time.Time // of the silence; zero: until it resolves
	By       string
}

// lastRun caches what fleet-check wrote until it runs again.
type lastRun struct {
	at   time.Time
	last fleet.Last
}

func (s *Site) lastRun() (fleet.Last, error) {
	k := &s.board.last
	at := fleet.Ran(s.o.Backend)
	if !at.IsZero() && at.Equal(k.at) {
		return k.last, nil
	}
	last, err := fleet.ReadLast(s.o.Backend)
	if err != nil {
		return last, err
	}
	k.at, k.last = at, last
	return last, nil
}

// buildModel joins everything that is known of the fleet.
func (s *Site) buildModel(now time.Time) (*model, error) {
	last, err := s.lastRun()
	if err != nil {
		return nil, err
	}
	all, err := s.o.Roster.All()
	if err != nil {
		return nil, err
	}
	notes, err := s.notes.all()
	if err != nil {
		return nil, err
	}
	silences, err := s.silences(now)
	if err != nil {
		return nil, err
	}
	book := s.o.Contacts()
	open, views := make([]fleet.Alert, len(last.Open)), map[string][]alertView{}
	m := &model{
		At: now, byName: make(map[ident.Host]*hostView, len(all)), Checked: last.At, Count: map[fleet.Health]int{},
		Listener: s.o.Connections(),
		Missing:  s.o.Missing(), Receivers: s.o.Receivers(), Receiver: book.Receiver, Unknown: book.UnknownClients, Reserve: s.o.Reserve,
		SilentAfter: s.o.Limits.SilentAfter,
	}
	if m.Free, err = s.o.Backend.Episodes.Free(); err != nil {
		return nil, err
	}
	for i, a := range last.Open {
		v := alertView{Alert: a}
		if x, ok := silences[a.Key()]; ok {
			v.Silenced, v.Until, v.By = true, x.Until, x.By
		} else if !a.Quiet {
			m.Open++
		}
		v.Alert.Silenced = v.Silenced
		open[i] = v.Alert
		m.Alerts = append(m.Alerts, v)
		views[a.Host] = append(views[a.Host], v)
	}
	slices.SortStableFunc(m.Alerts, func(a, b alertView) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Since.Compare(b.Since), strings.Compare(a.Host, b.Host))
	})
	m.Causes = groupByCause(m.Alerts)
	s.ingest.mu.Lock()
	m.Counting = !s.ingest.ready
	m.Hours, m.Episodes, m.Bytes = s.ingest.all.hours(s.ingest.slot)
	known := fleet.Known{
		Roster:  all,
		Hosts:   book.Hosts,
		Shipped: slices.Collect(maps.Keys(s.ingest.hosts)),
		Open:    open,
		Offered: s.o.Offered,
		Fresh:   s.o.Limits.Fresh(),
	}
	for _, status := range fleet.Join(known, now) {
		h := &hostView{Status: status, Alerts: views[string(status.Name)], Notes: notes[status.Name]}
		m.Hosts, m.byName[h.Name] = append(m.Hosts, h), h
		m.Count[h.Health]++
		if t := s.ingest.hosts[h.Name]; t != nil {
			h.Hours, _, _ = t.hours(s.ingest.slot)
			if n := len(t.recent); n > 0 {
				h.Accepted = t.recent[n-1].When()
			}
		}
		h.complete()
	}
	s.ingest.mu.Unlock()
	return m, nil
}

// Failing returns how many hosts fail a check without an open alert.
func (m *model) Failing() int { return m.Count[fleet.Failing] }

// NotReporting returns how many hosts miss pings without an open alert.
func (m *model) NotReporting() int { return m.Count[fleet.NotReporting] }

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

// complete sets when the host last shipped and when its certificate ends.
func (h *hostView) complete() {
	if c := h.Contact; c != nil {
		if c.LastAccepted.After(h.Accepted) {
			h.Accepted = c.LastAccepted
		}
		h.CertEnds = c.CertificateUntil
	}
	if h.Roster != nil && h.Roster.CertExpires.After(h.CertEnds) {
		h.CertEnds = h.Roster.CertExpires
	}
}

// Version returns the version that the host reports, or "".
func (h *hostView) Version() string {
	if h.Contact == nil {
		return ""
	}
	return check.Sanitize(h.Contact.Version, maxVersion)
}

// Behind reports whether the host runs another version than it is offered.
func (h *hostView) Behind() bool {
	return h.Offered != "" && h.Version() != "" && h.Offered != h.Version()
}

// Backlog describes the episodes that wait on the host.
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
		out += fmt.Sprintf(" + %d in quarantine", q.Quarantined)
	}
	return out
}

// Sum returns how many episodes the host shipped in 24 hours.
func (h *hostView) Sum() (n uint64) {
	for _, c := range h.Hours {
		n += uint64(c)
	}
	return n
}

// waiting returns how many episodes wait on the host.
func (h *hostView) waiting() int {
	if h.Contact == nil {
		return 0
	}
	return h.Contact.Queue.Waiting + h.Contact.Queue.Held + h.Contact.Queue.Quarantined
}
