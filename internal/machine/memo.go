package machine

import (
	"sync"
	"time"
)

// shared is how long an answer serves the checks of one run.
const shared = 3 * time.Second

// Share returns f such that checks that run side by side ask it once: an answer
// serves for a few seconds, and then it is asked anew, as registries are run
// again and again by a daemon.
func Share[T any](f func() (T, error)) func() (T, error) {
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
