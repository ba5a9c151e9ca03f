package listen

import "time"

// Stats are a listener's counters since its start, and its open connections.
type Stats struct {
	Unverified, Verified, Transfers    int // open connections
	EvictedUnverified, EvictedVerified uint64
	Refused                            uint64 // connections from addresses with too many handshakes
	HandshakesTooLong                  uint64 // with more bytes than a host sends
	HandshakesTimedOut                 uint64
	HandshakesBroken                   uint64 // aborted, or not TLS 1.3
	// Recent is how many connections of unverified clients were evicted or rejected in the
	// last ten minutes, and RecentFrom is the address with the most of them.
	Recent     int
	RecentFrom string
}

type counts struct {
	evictedUnverified, evictedVerified, refused             uint64
	handshakesTooLong, handshakesTimedOut, handshakesBroken uint64
}

// Stats returns the counters. They are zero for a nil listener, of a server behind a proxy.
func (l *Listener) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Unverified: l.unverified.n, Verified: l.verified.n, Transfers: l.transfers,
		EvictedUnverified: l.counts.evictedUnverified, EvictedVerified: l.counts.evictedVerified, Refused: l.counts.refused,
		HandshakesTooLong: l.counts.handshakesTooLong, HandshakesTimedOut: l.counts.handshakesTimedOut,
		HandshakesBroken: l.counts.handshakesBroken,
	}
	s.Recent, s.RecentFrom = l.recent.sum(time.Now())
	return s
}

// Recent events are counted per minute, with a few addresses per minute: those with the
// most events.
const (
	minutes       = 10
	remembered    = 16
	recentMinutes = time.Minute
)

// recent counts the events of the last minutes.
type recent struct {
	began time.Time
	slots [minutes]slot
}

type slot struct {
	minute int64
	n      int
	from   map[string]int
}

func newRecent() recent { return recent{began: time.Now()} }

// add counts an event. A new address beyond the limit takes over the lowest count, so the
// address with the most events stays right.
func (r *recent) add(from string, now time.Time) {
	minute := int64(now.Sub(r.began) / recentMinutes)
	s := &r.slots[minute%minutes]
	if s.from == nil || s.minute != minute {
		*s = slot{minute: minute, from: map[string]int{}}
	}
	s.n++
	if _, known := s.from[from]; !known && len(s.from) >= remembered {
		least := ""
		for k, n := range s.from {
			if least == "" || n < s.from[least] {
				least = k
			}
		}
		s.from[from] = s.from[least]
		delete(s.from, least)
	}
	s.from[from]++
}

// sum returns the number of events, and the address with the most.
func (r *recent) sum(now time.Time) (n int, top string) {
	minute := int64(now.Sub(r.began) / recentMinutes)
	all := map[string]int{}
	for i := range r.slots {
		if s := &r.slots[i]; s.from != nil && minute-s.minute < minutes {
			n += s.n
			for k, count := range s.from {
				all[k] += count
			}
		}
	}
	for k, count := range all {
		if top == "" || count > all[top] {
			top = k
		}
	}
	return n, top
}
