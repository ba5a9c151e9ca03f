package server

import (
	"errors"
	"time"

	"cis490/receiver/contacts"
)

func (s *Server) opened() bool { return s.closed.Load() == nil }

// open opens the store and everything that uses it. After an error nothing is open, and
// it may be called again.
func (s *Server) open() (err error) {
	defer func() {
		if err != nil {
			err = s.o.Backend.Explain(err)
			s.closed.Store(&condition{"data", err, false})
			err = errors.Join(err, s.closeStore())
			return
		}
		s.closed.Store(nil)
	}()
	o, c := s.o, s.o.Config
	if s.store, err = o.Backend.Serve(); err != nil {
		return err
	}
	notes := contacts.Options{
		Docs: o.Backend.Docs, Peers: o.Backend.Peers, Heard: s.heard, Rejections: o.Backend.Rejections,
		Version: o.Build.Version, Now: o.Now, Clock: o.Clock, Poll: o.Poll, Log: o.Log.With("component", "contacts"),
	}
	if s.rejections, err = contacts.OpenRejections(notes); err != nil {
		return err
	}
	s.snapshots = contacts.NewSnapshots(o.Backend.Docs)
	s.contacts = contacts.Open(notes)
	if err := o.Cluster.Refresh(); err != nil { // the gate and the policy are those of all receivers
		return err
	}
	o.Gate.Refresh()
	s.metrics = s.measures()
	if s.web, err = s.dashboard(); err != nil {
		return err
	}
	s.quotas = newQuotas(int64(c.Limits.HostQuota), int64(c.Limits.HostHourly), o.Backend.Peers != nil, o.Now)
	if s.began, err = s.afterRows(); err != nil {
		return err
	}
	s.mux = s.newMux()
	s.health.forget()
	return nil
}

// afterRows returns the time from which rows belong to this run: now or, if the clock is
// behind, just after the last row.
func (s *Server) afterRows() (time.Time, error) {
	now := s.o.Now()
	last, _, err := s.o.Backend.Index.Last()
	if err != nil || last.Before(now) {
		return now, err
	}
	return last.Add(1), nil
}

func (s *Server) closeStore() (err error) {
	if s.store != nil {
		err = s.store.Close()
	}
	s.store = nil
	return err
}
