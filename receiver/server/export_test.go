package server

import (
	"maps"
	"slices"
)

// Routes returns every pattern of the listener, ordered.
func (s *Server) Routes() []string { return slices.Sorted(maps.Keys(s.allRoutes())) }

// ForwardedFor is forwardedFor, for tests.
var ForwardedFor = forwardedFor

// OthersReady reports whether this receiver knows that another one is ready.
func (s *Server) OthersReady() bool { return s.o.Cluster.OthersReady() }
