package server

import (
	"context"
	"errors"
	"time"

	"cis490/receiver"
)

// When all rows and files are compared.
const (
	compareFirst = time.Minute
	compareEvery = 24 * time.Hour
	compareAgain = 10 * time.Minute // after an error, and if another receiver may have to do it
)

// compare periodically compares all rows with all tarballs, in the background. Of several
// receivers, one does that.
func (s *Server) compare(ctx context.Context) error {
	next := time.NewTimer(compareFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		if !s.compareDue() {
			next.Reset(compareAgain)
			continue
		}
		found, err := s.compareOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, receiver.ErrLeased):
		case err != nil:
			s.o.Log.Error("cannot compare rows and files", "err", err)
		case found.NoFile > 0:
			s.o.Log.Error(
				"rows without a file; their hosts send these episodes again when they reconcile", "count", found.NoFile, "episode", found.First,
			)
		default:
			s.o.Log.Info("compared rows and files", "rows", found.Rows, "files", found.Files, "repaired", found.Repaired)
		}
		next.Reset(compareEvery)
		if err != nil || s.o.Backend.Peers != nil {
			next.Reset(compareAgain)
		}
	}
}

// compareDue reports whether no receiver compared for a day. One receiver alone compares at
// each start.
func (s *Server) compareDue() bool {
	last := s.contacts.Copy().Receiver.Compared
	return s.o.Backend.Peers == nil || last == nil || s.o.Now().Sub(last.At).Abs() >= compareEvery
}

// compareOnce compares under a lease and records the result.
func (s *Server) compareOnce(ctx context.Context) (found receiver.Comparison, err error) {
	if s.o.Backend.Peers != nil {
		lease, err := s.o.Backend.Lease(receiver.Scrubbing)
		if err != nil {
			return found, err
		}
		defer func() { err = errors.Join(err, lease.Close()) }()
	}
	if found, err = s.store.Compare(ctx); err == nil {
		s.contacts.Compared(found)
	}
	return found, err
}
