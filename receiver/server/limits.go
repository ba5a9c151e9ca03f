package server

import (
	"sync"

	"cis490/internal/ident"
)

// slots are the places for uploads. One host gets at most a quarter of them, so
// that it cannot keep the others out.
type slots struct {
	mu      sync.Mutex
	all     int
	perHost int
	taken   int
	hosts   map[ident.Host]int
}

func newSlots(n int) *slots {
	return &slots{all: n, perHost: max(n/4, 1), hosts: map[ident.Host]int{}}
}

// enter takes a place, if there is one, and returns how to leave it.
func (s *slots) enter(h ident.Host) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.hosts[h] >= s.perHost {
		return nil, false
	}
	s.taken++
	s.hosts[h]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.hosts[h]--; s.hosts[h] == 0 {
			delete(s.hosts, h)
		}
	}, true
}
