package server

import (
	"sync"
	"time"

	"cis490/internal/listen"
)

// The connection limits. A connection of an unknown client costs at most 90 KiB (see
// docs/security.md).
const (
	unverifiedConns = 768
	verifiedConns   = 3072
)

// hostConns is the connection limit of one host: its parallel uploads, and some for other
// requests.
func (s *Server) hostConns() int { return max(8, s.uploads.each+2) }

// semaphore bounds parallel uploads, or downloads. One client, a host or an address, gets
// at most a quarter of the places.
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

// acquire takes a place, if one is free, and returns the function that releases it.
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

// The limits of log lines about refused requests. Unknown clients and hosts have separate
// ones, so that neither hides the other's.
const (
	lineBurst = 20
	lineEvery = 6 * time.Second
)

// lines returns the log limit for a request without an accepted identity.
func (s *Server) lines(n *request) *listen.Lines {
	if n.verified {
		return s.refused
	}
	return s.unknown
}
