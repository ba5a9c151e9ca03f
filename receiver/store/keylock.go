package store

import (
	"sync"

	"cis490/receiver"
)

// Locks has one lock for each episode in use.
type Locks struct {
	mu   sync.Mutex
	held map[receiver.Key]*keyLock
}

type keyLock struct {
	mu    sync.Mutex
	users int
}

// Lock waits for the episode's lock and returns its unlock function.
func (l *Locks) Lock(k receiver.Key) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[receiver.Key]*keyLock{}
	}
	e := l.held[k]
	if e == nil {
		e = &keyLock{}
		l.held[k] = e
	}
	e.users++
	l.mu.Unlock()

	e.mu.Lock()
	return func() {
		e.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(l.held, k)
		}
	}
}
