package server

import (
	"context"
	"time"

	"cis490/internal/listen"
	"cis490/receiver"
	"cis490/receiver/catalogue"
	"cis490/receiver/fleet"
	"cis490/receiver/notify"
	"cis490/receiver/silences"
	"cis490/receiver/web"
)

// dashboard returns the operator's pages.
func (s *Server) dashboard() (*web.Site, error) {
	o := s.o
	return web.New(web.Options{
		Backend: o.Backend, Tokens: o.Tokens, Roster: o.Roster, Build: o.Build,
		Contacts: s.contacts.Copy, Receivers: o.Cluster.Members,
		Copies: func() bool {
			return o.Config.Authority.Elsewhere || o.Config.Authority.Shared() && !o.Cluster.Has(receiver.Publishing)
		},
		Missing: s.NotReady, Known: o.Known, Offered: o.Offered, Silences: silencer{s}, TestNotify: s.testNotify,
		Limits: s.limits(), SendTar: s.getEpisodesTar,
		Catalogue: func() *catalogue.Catalogue {
			if c := s.catalogue.Load(); c != nil {
				return c.Catalogue
			}
			return nil
		},
		Connections: func() listen.Stats { return s.limiter.Stats() },
		From:        s.from, Reserve: int64(o.Config.Limits.DiskReserve), Now: o.Now, Poll: o.Poll, Log: o.Log.With("component", "web"),
	})
}

// testNotify sends each notify target a test message.
func (s *Server) testNotify(ctx context.Context) map[string]error {
	results := map[string]error{}
	for _, t := range notify.All(s.o.Config.Notify) {
		results[t.Name] = notify.SendTest(ctx, t, s.o.Now())
	}
	return results
}

// silencer gives the dashboard access to the silences.
type silencer struct{ s *Server }

var _ web.Silences = silencer{}

// Active returns the silences in force at a time.
func (h silencer) Active(now time.Time) (map[fleet.Key]web.Silence, error) {
	all, err := fleet.ActiveSilences(h.s.o.Backend, now)
	out := make(map[fleet.Key]web.Silence, len(all))
	for k, x := range all {
		out[k] = web.Silence{Until: x.Until, By: x.Comment}
	}
	return out, err
}

// Silence mutes alerts durably.
func (h silencer) Silence(all []fleet.Key, until time.Time, by string) error {
	return h.add(all, receiver.Silence{Until: until.UTC(), Comment: by})
}

// End ends silences durably.
func (h silencer) End(all []fleet.Key, by string) error {
	return h.add(all, receiver.Silence{End: true, Comment: by})
}

func (h silencer) add(all []fleet.Key, x receiver.Silence) error {
	var rows []receiver.Silence
	for _, k := range all {
		x.Host, x.Symptom = k.Host, k.Symptom
		rows = append(rows, x)
	}
	return silences.AddAll(h.s.o.Backend.Silences, rows)
}
