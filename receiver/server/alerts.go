package server

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/silences"
	"cis490/receiver/web"
)

// maxSilence bounds the body of a silence, in bytes.
const maxSilence = 4 << 10

// fleetRoutes are the operator's routes about the whole fleet.
func (s *Server) fleetRoutes() map[string]handler {
	return map[string]handler{
		"GET " + wire.AlertsPath:                                s.may(receiver.Read, s.getAlerts),
		"GET " + wire.FleetPath:                                 s.may(receiver.Read, s.getFleet),
		"POST " + wire.AlertsPath + "/{host}/{symptom}/silence": s.may(receiver.Operate, s.postSilence),
	}
}

func (s *Server) getAlerts(w http.ResponseWriter, _ *http.Request) error {
	last, err := fleet.ReadOpen(s.o.Backend, s.o.Now())
	if err != nil {
		return err
	}
	if last.Open == nil {
		last.Open = []fleet.Alert{}
	}
	return answer(w, http.StatusOK, struct {
		FleetCheck time.Time     `json:"fleet_check,omitzero"`
		Open       []fleet.Alert `json:"open"`
	}{last.At, last.Open})
}

// getSnapshots sends the health reports of all hosts, or 304 if none changed.
func (s *Server) getSnapshots(w http.ResponseWriter, r *http.Request) error {
	tag, write, err := s.snapshots.List()
	if err != nil {
		return err
	}
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", wire.ContentTypeJSON)
	w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(w, 64<<10)
	if err := write(out); err != nil {
		return err
	}
	_ = out.Flush() // the client is gone; the access log has the bytes sent
	return nil
}

// hostOfFleet is a host in the answer to GET /v1/fleet.
type hostOfFleet struct {
	Host         ident.Host   `json:"host"`
	Health       fleet.Health `json:"health"`
	LastContact  time.Time    `json:"last_contact,omitzero"`
	LastAccepted time.Time    `json:"last_accepted,omitzero"`
	Version      string       `json:"version,omitempty"`
	Commit       ident.Commit `json:"commit,omitempty"`
	Leaving      bool         `json:"leaving,omitempty"`
	Queue        wire.Queue   `json:"queue"`
	Symptoms     []string     `json:"symptoms,omitempty"`
	Failing      []string     `json:"failing,omitempty"` // checks, while no alert is open
}

func (s *Server) getFleet(w http.ResponseWriter, _ *http.Request) error {
	last, err := fleet.ReadOpen(s.o.Backend, s.o.Now())
	if err != nil {
		return err
	}
	book := s.contacts.Copy()
	all, err := s.o.Roster.All()
	if err != nil {
		return err
	}
	known := fleet.Known{Roster: all, Hosts: book.Hosts, Open: last.Open, Fresh: s.limits().Fresh()}
	hosts := []hostOfFleet{}
	for _, x := range fleet.Join(known, s.o.Now()) {
		if x.Health == fleet.Decommissioned {
			continue
		}
		h := hostOfFleet{Host: x.Name, Health: x.Health, Symptoms: x.Symptoms(), Failing: x.Failing}
		if c := x.Contact; c != nil {
			h.LastContact, h.LastAccepted, h.Version, h.Commit = c.LastContact, c.LastAccepted, check.Sanitize(c.Version, 80), c.Commit
			h.Leaving, h.Queue = c.Leaving, c.Queue
		}
		hosts = append(hosts, h)
	}
	slices.SortFunc(hosts, func(a, b hostOfFleet) int { return strings.Compare(string(a.Host), string(b.Host)) })
	var own []string
	for _, a := range last.Open {
		if a.Host == fleet.Receiver {
			own = append(own, a.Symptom)
		}
	}
	missing := s.NotReady()
	return answer(w, http.StatusOK, struct {
		Ready      bool          `json:"ready"`
		Missing    []string      `json:"missing,omitempty"`
		FleetCheck time.Time     `json:"fleet_check,omitzero"`
		Alerts     int           `json:"alerts"`
		Symptoms   []string      `json:"receiver_symptoms,omitempty"`
		Hosts      []hostOfFleet `json:"hosts"`
	}{len(missing) == 0, missing, last.At, len(last.Open), own, hosts})
}

// limits returns the thresholds of fleet-check.
func (s *Server) limits() fleet.Limits { return fleet.LimitsOf(s.o.Config) }

// postSilence adds a silence, or ends one. Without an expiry it covers the open alert
// only.
func (s *Server) postSilence(w http.ResponseWriter, r *http.Request) error {
	var in wire.Silence
	if err := s.readJSON(w, r, maxSilence, &in); err != nil {
		return err
	}
	k := fleet.Key{Host: r.PathValue("host"), Symptom: r.PathValue("symptom")}
	if _, err := ident.ParseHost(k.Host); err != nil && k.Host != fleet.Receiver {
		return wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	if !fleet.IsSymptom(k.Symptom) {
		return wire.NewProblem(wire.Malformed, "path: %.40q is not a symptom", k.Symptom)
	}
	if !in.Until.IsZero() && !in.Until.After(s.o.Now()) {
		return wire.NewProblem(wire.Malformed, "until %s is in the past", plain.Time(in.Until))
	}
	if in.Until.IsZero() && !in.End {
		open, err := fleet.Began(s.o.Backend)
		if err != nil {
			return err
		}
		if _, ok := open[k]; !ok {
			return wire.NewProblem(wire.NotFound, "no alert %s of %s is open: give the silence an expiry", k.Symptom, k.Host)
		}
	}
	row, err := s.silence(receiver.Silence{Host: k.Host, Symptom: k.Symptom, Until: in.Until.UTC(), End: in.End, Comment: in.Comment})
	if err != nil {
		return err
	}
	s.o.Log.Info("alert silenced", "host", k.Host, "symptom", k.Symptom, "until", row.Until, "end", row.End, "by", web.Holder(r))
	return answer(w, http.StatusCreated, row)
}

// silence stores a silence durably.
func (s *Server) silence(x receiver.Silence) (receiver.Silence, error) {
	return silences.Add(s.o.Backend.Silences, x)
}

// bridgeSilences corrects silences that were made while the clock was wrong, so that they
// keep their duration. It runs at the start, and after each jump of the clock.
func (s *Server) bridgeSilences() {
	if s.o.Backend.Peers != nil { // their times are those of the storage's clock
		return
	}
	jump := s.contacts.LastJump()
	if s.bridged != nil && *s.bridged == jump {
		return
	}
	if err := silences.Bridge(s.o.Backend.Silences, s.o.Now(), s.contacts.Past, jump); err != nil {
		s.o.Log.Warn("cannot correct silences after a jump of the clock; they may last too long or too short", "err", err)
	}
	s.bridged = &jump
}
