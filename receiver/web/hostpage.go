package web

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
)

// How much of a host's past is shown.
const (
	historyBack = 7 * 24 * time.Hour
	historyRows = 60
	maxChecks   = 200
)

type hostPage struct {
	*hostView
	At       time.Time
	Snapshot *snapshotView
	Unread   string // why there is a snapshot and it is not shown
	History  []turn
	Recent   []receiver.Entry
	Knocks   []knockView
}

// snapshotView is a doctor run as the host told it; its fixes are this
// receiver's own.
type snapshotView struct {
	At, Received time.Time
	Version      string
	Checks, Rest []check.Row // those that need a look, and the others
	Left         int         // checks that are not shown
	Bad, All     int
}

// turn is a symptom's beginning or end.
type turn struct {
	At      time.Time
	Symptom string
	State   string
	Reason  string
}

type knockView struct {
	contacts.AuthFailure
	Proven bool
	Title  string
}

func (s *Site) host(w http.ResponseWriter, r *http.Request) error {
	name, err := ident.ParseHost(r.PathValue("host"))
	if err != nil {
		return wire.NewProblem(wire.Malformed, "%s", err)
	}
	m, err := s.model()
	if err != nil {
		return err
	}
	h := m.byName[name]
	if h == nil {
		return wire.NewProblem(wire.NotFound, "this receiver knows no host %s", name)
	}
	p := hostPage{hostView: h, At: m.At}
	_, p.Recent = s.ingest.of(name)
	if p.Snapshot, err = s.snapshot(name); err != nil {
		p.Unread = check.Sanitize(err.Error(), 200)
	}
	if p.History, err = s.history(name, m.At.Add(-historyBack)); err != nil {
		return err
	}
	if h.Contact != nil {
		for _, k := range h.Contact.Verified {
			p.Knocks = append(p.Knocks, knockView{k, true, wire.AnswerOf(k.Kind).Title})
		}
		for _, k := range h.Contact.Unverified {
			p.Knocks = append(p.Knocks, knockView{k, false, wire.AnswerOf(k.Kind).Title})
		}
		slices.SortFunc(p.Knocks, func(a, b knockView) int { return b.At.Compare(a.At) })
	}
	return s.render(w, r, http.StatusOK, "host", string(name), p)
}

// snapshot reads a host's latest snapshot; none is nil. Its text is the host's:
// capped here, escaped where it is shown.
func (s *Site) snapshot(name ident.Host) (*snapshotView, error) {
	snap, err := contacts.ReadSnapshot(s.o.Backend.Docs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rep := snap.Snapshot
	v := &snapshotView{At: rep.At, Received: snap.ReceivedAt, Version: check.Sanitize(rep.Version, 80)}
	severity := map[check.Status]int{check.Fail: 0, check.Warn: 1, check.Skip: 2, check.Pass: 3}
	for _, c := range rep.Checks {
		if _, ok := severity[c.Status]; !ok {
			c.Status = check.Skip
		}
		row := check.Row{ID: check.Sanitize(c.ID, 64), Title: check.Sanitize(c.Title, 120), Status: c.Status, Detail: check.Sanitize(c.Detail, 500), Hard: c.Hard}
		if known, ok := s.o.Known(row.ID); ok {
			row.Title = known.Title
			if row.Status == check.Fail || row.Status == check.Warn {
				row.Fix = fixFor(known.Fix, name)
			}
		}
		v.Checks = append(v.Checks, row)
	}
	v.All = len(v.Checks)
	slices.SortStableFunc(v.Checks, func(a, b check.Row) int { return severity[a.Status] - severity[b.Status] })
	v.Left = max(0, v.All-maxChecks)
	v.Bad = slices.IndexFunc(v.Checks, func(c check.Row) bool { return severity[c.Status] > severity[check.Warn] })
	if v.Bad < 0 {
		v.Bad = v.All
	}
	v.Checks = v.Checks[:v.All-v.Left]
	need := min(v.Bad, len(v.Checks))
	v.Checks, v.Rest = v.Checks[:need], v.Checks[need:]
	return v, nil
}

// history returns when the host's symptoms came and went, newest first. The
// hourly rows of one that lasts are one.
func (s *Site) history(name ident.Host, from time.Time) ([]turn, error) {
	var all []turn
	open := map[string]time.Time{} // since when, by symptom
	var rows []fleet.Alert
	for p, err := range s.o.Backend.Alerts.Before(receiver.Query{Host: string(name)}) {
		if err != nil {
			return nil, err
		}
		if !p.At.IsZero() && p.At.Before(from) || len(rows) >= 50*historyRows {
			break
		}
		if p.Match {
			rows = append(rows, p.Row)
		}
	}
	for _, a := range slices.Backward(rows) {
		if since, ok := open[a.Symptom]; ok && a.State == fleet.Firing && since.Equal(a.Since) {
			continue
		}
		at := a.At
		if a.State == fleet.Firing {
			open[a.Symptom], at = a.Since, a.Since
		} else {
			delete(open, a.Symptom)
		}
		all = append(all, turn{at, check.Sanitize(a.Symptom, 40), a.State, check.Sanitize(a.Reason, 300)})
	}
	slices.Reverse(all)
	return all[:min(len(all), historyRows)], nil
}
