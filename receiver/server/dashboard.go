package server

import (
	"cis490/receiver/web"
)

// dashboard makes the operator's pages out of what the server knows.
func (s *Server) dashboard() (*web.Site, error) {
	o := s.o
	return web.New(web.Options{
		FS: o.FS, DataDir: o.Config.DataDir, Operator: o.Config.Operator, Roster: o.Roster, Build: o.Build,
		Contacts: s.contacts.Copy, Missing: s.Missing, Known: o.Known, Offered: o.Offered, Silences: o.Silences,
		From: s.from, Reserve: int64(o.Config.Limits.DiskReserve), Now: o.Now, Log: o.Log.With("component", "web"),
	})
}
