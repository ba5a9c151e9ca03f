package authority

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Failures that one address may cause: a burst, then one each refill.
const (
	burst      = 20
	refill     = 6 * time.Second
	maxSources = 4096 // remembered at the same time
)

// limiter bounds the refusals that one source can cause, and with them the
// lines that a stranger can write into the log.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	sources map[netip.Prefix]*source
}

type source struct {
	failures *rate.Limiter
	over     bool // the last one was not allowed
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, sources: make(map[netip.Prefix]*source)}
}

// failure counts one; first tells that it is the first over the limit.
func (l *limiter) failure(from string) (allowed, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	key := sourceOf(from)
	s := l.sources[key]
	if s == nil {
		l.makeRoom(now)
		s = &source{failures: rate.NewLimiter(rate.Every(refill), burst)}
		l.sources[key] = s
	}
	allowed = s.failures.AllowN(now, 1)
	first = !allowed && !s.over
	s.over = !allowed
	return allowed, first
}

// makeRoom forgets sources that have been quiet, and if they are few any others
// up to a half: who has that many addresses is not held back by one more, and
// must not make each failure cost a walk through all of them.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.sources) < maxSources {
		return
	}
	for key, s := range l.sources {
		if s.failures.TokensAt(now) >= burst {
			delete(l.sources, key)
		}
	}
	for key := range l.sources {
		if len(l.sources) <= maxSources/2 {
			return
		}
		delete(l.sources, key)
	}
}

// sourceOf returns the address, for IPv6 its /64, which one machine has whole.
func sourceOf(from string) netip.Prefix {
	addr, err := netip.ParseAddr(from)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
