package server

import (
	"net/http"
	"time"

	"cis490/internal/listen"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/metrics"
)

// measures returns the metrics.
func (s *Server) measures() *metrics.Metrics {
	o := s.o
	return metrics.New(metrics.Options{
		Build: o.Build, Contacts: s.contacts.Copy, NotReady: s.NotReady, Reserve: int64(o.Config.Limits.DiskReserve), Uploads: s.uploads.inUse,
		Connections: func() listen.Stats { return s.limiter.Stats() },
		Gate: func() (bool, int, error) {
			r, err := s.o.Gate.Rules()
			return r.Enabled, len(r.Accepted), err
		},
		Free: o.Backend.Episodes.Free, Storage: o.Backend.Observe, Receivers: o.Cluster.Members, Lag: o.Backend.Lag,
		Certificate: func() time.Time {
			if cert := s.certificate(); cert != nil {
				return cert.NotAfter
			}
			return time.Time{}
		},
		FleetCheck: func() (fleet.Last, error) { return fleet.ReadLast(o.Backend) },
		Log:        o.Log.With("component", "metrics"),
	})
}

func (s *semaphore) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	s.metrics.ServeHTTP(w, r)
	return nil
}

// measure counts a finished request.
func (s *Server) measure(r *http.Request, n *request, status int, took time.Duration, err error) {
	s.metrics.Request(r.Pattern, status, took)
	var kind wire.Kind
	if err != nil {
		kind = problemOf(err).Kind
	}
	if n.route == receiver.RouteEpisode {
		s.metrics.Ingest(status, kind, n.bytes)
	}
	if n.route != "" && !n.identified && err != nil && status < http.StatusInternalServerError {
		s.metrics.AuthFailed(kind, n.verified)
	}
}
