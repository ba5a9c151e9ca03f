package machine

import (
	"sync"
	"time"
)

// shared is how long a result serves the checks of one run.
const shared = 3 * time.Second

// CacheBriefly wraps f so that concurrent checks share one call. A result is valid for a few
// seconds, because a daemon runs the checks again and again.
func CacheBriefly[T any](f func() (T, error)) func() (T, error) {
	var (
		mu  sync.Mutex
		at  time.Time
		v   T
		err error
	)
	return func() (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if at.IsZero() || time.Since(at) > shared {
			v, err = f()
			at = time.Now()
		}
		return v, err
	}
}
