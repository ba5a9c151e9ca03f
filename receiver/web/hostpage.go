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
)

// Bounds of a host's page.
const (
	historyRows = 60
	maxChecks   = 200
)

type hostPage struct {
	*hostView
	At       time.Time
	Snapshot *snapshotView
	Unread   string // why the health report cannot be shown
	Past     past
	Periods  []period
	Strips   []strip
	Recent   []receiver.Entry
	Rejected []rejectedView
}

// snapshotView is the host's last health report. The fixes are this receiver's own.
type snapshotView struct {
	At, Received time.Time
	Version      string
	Checks, Rest []check.Row // those that warn or fail, and the others
	Left         int         // checks that the page does not show
	Bad, All     int
}

type rejectedView struct {
	contacts.AuthFailure
	Verified bool
	Title    string
}

// hostOf returns the host that a path names.
func (s *Site) hostOf(r *http.Request) (*hostView, *model, error) {
	name, err := ident.ParseHost(r.PathValue("host"))
	if err != nil {
		return nil, nil, wire.NewProblem(wire.Malformed, "%s", err)
	}
	m, err := s.model()
	if err != nil {
		return nil, nil, err
	}
	h := m.byName[name]
	if h == nil {
		return nil, nil, wire.NewProblem(wire.NotFound, "this receiver knows no host %s", name)
	}
	return h, m, nil
}

func (s *Site) host(w http.ResponseWriter, r *http.Request) error {
	h, m, err := s.hostOf(r)
	if err != nil {
		return err
	}
	name := h.Name
	p := hostPage{hostView: h, At: m.At}
	_, p.Recent = s.ingest.of(name)
	if p.Snapshot, err = s.snapshot(name); err != nil {
		p.Unread = check.Sanitize(err.Error(), 200)
	}
	if p.Past, err = s.readPast(r, string(name), periodOf(r, "7d"), m); err != nil {
		return err
	}
	p.Periods, p.Strips = periods(), p.Past.strips(func(x span) string { return x.Symptom })
	p.Past.Spans = p.Past.Spans[:min(len(p.Past.Spans), historyRows)]
	if h.Contact != nil {
		for _, k := range h.Contact.Verified {
			p.Rejected = append(p.Rejected, rejectedView{k, true, wire.AnswerOf(k.Kind).Title})
		}
		for _, k := range h.Contact.Unverified {
			p.Rejected = append(p.Rejected, rejectedView{k, false, wire.AnswerOf(k.Kind).Title})
		}
		slices.SortFunc(p.Rejected, func(a, b rejectedView) int { return b.At.Compare(a.At) })
	}
	return s.render(w, r, http.StatusOK, "host", string(name), p)
}

// snapshot reads a host's last health report; nil if there is none. The host's text is
// shortened here, and escaped by the template.
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
		row := check.Row{
			ID:     check.Sanitize(c.ID, 64),
			Title:  check.Sanitize(c.Title, 120),
			Status: c.Status,
			Detail: check.Sanitize(c.Detail, 500),
			Hard:   c.Hard,
		}
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
