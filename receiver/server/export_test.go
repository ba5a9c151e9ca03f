package server

import (
	"maps"
	"slices"
)

// Routes returns every pattern of the listener, ordered.
func (s *Server) Routes() []string { return slices.Sorted(maps.Keys(s.allRoutes())) }

// ForwardedFor is forwardedFor, for tests.
var ForwardedFor = forwardedFor
