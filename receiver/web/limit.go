package web

import (
	"sync"
	"time"
)

// Wrong tokens that one address may send: a burst, then one each refill.
const (
	tries      = 5
	refill     = 10 * time.Second
	maxSources = 4096
)

// limiter bounds how often one address may guess. The right token is never kept
// out by another's guesses, except from the same address.
type limiter struct {
	now func() time.Time

	mu sync.Mutex
	// full is when an address will have all its tries again.
	full map[string]time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, full: map[string]time.Time{}}
}

// wait returns how long an address has to wait for its next try.
func (l *limiter) wait(from string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	full, ok := l.full[from]
	if !ok {
		return 0
	}
	return max(0, full.Sub(l.now())-(tries-1)*refill)
}

// failed counts a wrong token.
func (l *limiter) failed(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if len(l.full) >= maxSources {
		for k, t := range l.full {
			// Who has that many addresses is not held back by one more.
			if !t.After(now) || len(l.full) > maxSources/2 {
				delete(l.full, k)
			}
		}
	}
	t := l.full[from]
	if t.Before(now) {
		t = now
	}
	l.full[from] = t.Add(refill)
}
