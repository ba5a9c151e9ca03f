package server

import (
	"net/http"
	"time"

	"cis490/internal/disk"
	"cis490/internal/listen"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/metrics"
)

// measures makes the metrics out of what the server knows.
func (s *Server) measures() *metrics.Metrics {
	o := s.o
	return metrics.New(metrics.Options{
		Build: o.Build, Contacts: s.contacts.Copy, Missing: s.Missing, Reserve: int64(o.Config.Limits.DiskReserve), Uploads: s.uploads.inUse,
		Connections: func() listen.Stats { return s.crowd.Stats() },
		Gate: func() (bool, int, error) {
			r, err := s.gate.Rules()
			return r.Enabled, len(r.Accepted), err
		},
		Free: func() (int64, error) {
			if space, ok := o.FS.(disk.Space); ok {
				return space.Free(o.Config.DataDir)
			}
			return 0, nil
		},
		Certificate: func() time.Time {
			if s.pair == nil {
				return time.Time{}
			}
			if cert, _ := s.pair.get(); cert != nil { // readyz tells why there is none
				return cert.Leaf.NotAfter
			}
			return time.Time{}
		},
		FleetCheck: fleet.Memory{FS: o.FS, Dir: o.Config.DataDir, Spare: o.Spare}.Last,
		Log:        o.Log.With("component", "metrics"),
	})
}

func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	s.metrics.ServeHTTP(w, r)
	return nil
}

// measure counts a request that ended.
func (s *Server) measure(r *http.Request, n *note, status int, took time.Duration, err error) {
	s.metrics.Request(r.Pattern, status, took)
	var kind wire.Kind
	if err != nil {
		kind = problemOf(err).Kind
	}
	if n.route == contacts.RouteEpisode {
		s.metrics.Ingest(status, kind, n.bytes)
	}
	if n.route != "" && !n.identified && err != nil && status < http.StatusInternalServerError {
		s.metrics.Knock(kind, n.proven)
	}
}
