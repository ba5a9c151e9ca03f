package server

import (
	"sync"
	"time"

	"cis490/internal/listen"
)

// The places for connections. One of an unknown client costs at most 90 KiB (see
// docs/security.md).
const (
	unverifiedConns = 768
	verifiedConns   = 3072
)

// hostConns is how many connections one host may have: as many as it may upload over
// at a time, and some for the rest.
func (s *Server) hostConns() int { return max(8, s.uploads.each+2) }

// slots are the places for uploads, or for downloads. One client, a host or an
// address, gets at most a quarter of them, so that it cannot keep the others out.
type semaphore struct {
	mu    sync.Mutex
	all   int
	each  int
	taken int
	of    map[string]int
}

func newSemaphore(n int) *semaphore {
	return &semaphore{all: n, each: max(n/4, 1), of: map[string]int{}}
}

// enter takes a place, if there is one, and returns how to release it.
func (s *semaphore) acquire(client string) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.of[client] >= s.each {
		return nil, false
	}
	s.taken++
	s.of[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.of[client]--; s.of[client] == 0 {
			delete(s.of, client)
		}
	}, true
}

// Log lines about requests that are refused: of all unknown clients together, and of
// all hosts, so that neither hide the other's.
const (
	lineBurst = 20
	lineEvery = 6 * time.Second
)

// lines returns the bounds for a line about a request that no identity was accepted
// for.
func (s *Server) lines(n *request) *listen.Lines {
	if n.verified {
		return s.refused
	}
	return s.unknown
}
