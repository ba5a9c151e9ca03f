package server

import (
	"context"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/rollout"
)

// join makes this receiver known to the others until ctx ends.
func (s *Server) join(ctx context.Context) error {
	began := s.o.Now().UTC()
	return s.o.Cluster.Run(ctx, func() cluster.Member { return s.member(began) })
}

// member describes this receiver.
func (s *Server) member(began time.Time) cluster.Member {
	c := s.o.Config
	m := cluster.Member{Version: s.o.Build.Version, StartedAt: began, Missing: s.NotReady(), Settings: map[string]string{}}
	m.Ready = len(m.Missing) == 0 && !s.leaving.Load()
	m.Settings["[limits]"] = cluster.Digest(c.Limits)
	if cert := s.certificate(); cert != nil {
		m.CertificateFrom, m.CertificateUntil = cert.NotBefore, cert.NotAfter
	}
	rules, config, err := s.o.Gate.Own()
	if err == nil {
		m.Rules, m.Settings["[gate]"] = rules, cluster.Digest(config)
		m.Judges, _ = s.judges(rules) // it is marshaled in every ping
	}
	if tokens, err := s.o.Tokens(); err == nil {
		m.Settings["access tokens"] = cluster.Digest(tokens)
	}
	return m
}

// heard passes the ping that another receiver took on to the rollout.
func (s *Server) heard(h ident.Host, c contacts.Contact) {
	if s.o.Releases != nil {
		s.o.Releases.Learn(h, rollout.Report{
			At: c.LastPing, OS: c.OS, Arch: c.Arch, Update: c.Update, Ailing: len(c.Failing) > 0, Leaving: c.Leaving,
		})
	}
}
