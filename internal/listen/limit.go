package listen

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxSources bounds the remembered addresses.
const maxSources = 4096

// Source returns the key under which an address is counted: an IPv4 address, or the /64 of
// an IPv6 address, because a machine has a whole /64. The address may include a port.
// Anything else is "".
func Source(address string) string {
	at, err := netip.ParseAddrPort(address)
	addr := at.Addr()
	if err != nil {
		if addr, err = netip.ParseAddr(address); err != nil {
			return ""
		}
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return ""
	}
	return p.String()
}

// Limiter allows each source a burst of events, then one in each interval. It remembers a
// bounded number of sources.
type Limiter struct {
	burst int
	every time.Duration
	now   func() time.Time

	mu      sync.Mutex
	sources map[string]*rate.Limiter
}

// NewLimiter returns a limiter in which each source has its whole burst left.
func NewLimiter(burst int, every time.Duration, now func() time.Time) *Limiter {
	return &Limiter{burst: burst, every: every, now: now, sources: map[string]*rate.Limiter{}}
}

// Allow counts an event of a source and reports whether it is within the limit.
func (l *Limiter) Allow(source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	s := l.sources[source]
	if s == nil {
		l.makeRoom(now)
		s = rate.NewLimiter(rate.Every(l.every), l.burst)
		l.sources[source] = s
	}
	return s.AllowN(now, 1)
}

// Wait returns how long a source must wait for its next event. It does not count one.
func (l *Limiter) Wait(source string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sources[source]
	if s == nil {
		return 0
	}
	return time.Duration(max(0, 1-s.TokensAt(l.now())) * float64(l.every))
}

// makeRoom forgets sources that have their whole burst left, and if these are few,
// arbitrary others down to a half. An attacker with that many addresses gains little from
// one more, and must not make every event scan the whole map.
func (l *Limiter) makeRoom(now time.Time) {
	if len(l.sources) < maxSources {
		return
	}
	for k, s := range l.sources {
		if s.TokensAt(now) >= float64(l.burst) {
			delete(l.sources, k)
		}
	}
	for k := range l.sources {
		if len(l.sources) <= maxSources/2 {
			return
		}
		delete(l.sources, k)
	}
}

// Lines limits log lines of a kind: a burst, then one in each interval.
type Lines struct {
	mu      sync.Mutex
	rate    *rate.Limiter
	omitted int
}

// NewLines returns an unused limit.
func NewLines(burst int, every time.Duration) *Lines {
	return &Lines{rate: rate.NewLimiter(rate.Every(every), burst)}
}

// Next reports whether a line may be logged now, and how many were omitted since the last.
// It is cheap when the line is omitted.
func (l *Lines) Next() (omitted int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.rate.Allow() {
		l.omitted++
		return 0, false
	}
	omitted, l.omitted = l.omitted, 0
	return omitted, true
}
