package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/roster"
)

// beat is the largest age of contacts.json while serve runs, which writes it at least
// once a minute.
const beat = 2*time.Minute + 30*time.Second

// Source is what facts are read from.
type Source struct {
	receiver.Backend              // the receiver's, or a copy of it
	Roster           *roster.View // nil: only hosts that ship are known
	// Gate judges the running commit of a host; nil: not judged.
	Gate func(ident.Commit) (wire.Verdict, error)
	// Offered returns the version that a host should run; nil: not known.
	Offered func(goos, arch string, h ident.Host) string
	// Clock is a reading of this machine's clock, of which only the time since boot is
	// used. Zero: the backend belongs to another machine.
	Clock clock.Reading
}

// reading returns the clock's reading at a time.
func (s Source) reading(now time.Time) clock.Reading {
	r := s.Clock
	r.Wall = now
	return r
}

// Gather reads the facts. It returns all facts that it can read, with the joined errors
// of the others, so that one damaged ledger does not hide the rest.
func Gather(s Source, now time.Time, l Limits) (*Facts, error) {
	f := &Facts{Now: now, Limits: l, Hosts: map[ident.Host]*Host{}, Known: func(string) (check.Check, bool) { return check.Check{}, false }}
	book, err := contacts.Of(s.Backend, s.reading(now))
	f.contacts = book
	f.away(book, now)
	if err != nil && !errors.Is(err, contacts.ErrDamaged) { // who left in order, and when the receiver was away, are not known
		f.Away = append(f.Away, contacts.Span{To: now})
	}
	for name, c := range book.Hosts {
		h := f.host(name)
		h.contact(c)
		if s.Offered != nil {
			h.Offered = s.Offered(c.OS, c.Arch, name)
		}
		if s.Gate != nil && !c.LastPing.IsZero() {
			if v, err := s.Gate(c.Commit); err == nil && !v.Accepted {
				h.Contact.Gated, h.Contact.Blocked = check.Sanitize(v.Reason, 200), v.Blocked
			}
		}
	}
	err = errors.Join(err, f.roster(s.Roster), f.accepted(s, f.rowsSince()), f.refused(s, now))
	f.Unread = err != nil
	unstored := f.stored(s)
	if f.lacksRows() {
		unstored = errors.Join(unstored, f.accepted(s, now.Add(-l.Lookback)))
	}
	reports, unlisted := contacts.AllSnapshots(s.Docs)
	errs := []error{err, unstored, unlisted}
	for name, h := range f.Hosts {
		if s.Gate != nil && h.Refused.Commit != "" {
			v, err := s.Gate(ident.Commit(h.Refused.Commit))
			h.Refused.Blocked = err == nil && v.Blocked
		}
		d, reported := reports[name]
		err := unlisted
		if reported {
			err = h.report(f, s, name, d)
			errs = append(errs, err)
		}
		h.Unread = err != nil || unstored != nil && !h.everAccepted()
	}
	return f, errors.Join(errs...)
}

func (f *Facts) host(name ident.Host) *Host {
	h := f.Hosts[name]
	if h == nil {
		h = &Host{}
		f.Hosts[name] = h
	}
	return h
}

// away collects the periods in which the receiver accepted nothing. If serve has stopped
// writing its contacts, such a period began with the last write.
func (f *Facts) away(c contacts.Contacts, now time.Time) {
	for _, o := range c.Receiver.Outages {
		if o.To.IsZero() {
			o.To = now
		}
		f.Away = append(f.Away, o)
	}
	n := len(c.Receiver.Outages)
	running := n > 0 && c.Receiver.Outages[n-1].To.IsZero()
	if !c.WrittenAt.IsZero() && !running && now.Sub(c.WrittenAt) > beat {
		f.Away = append(f.Away, contacts.Span{From: c.WrittenAt, To: now})
	}
}

func (f *Facts) roster(v *roster.View) error {
	if v == nil {
		return nil
	}
	all, err := v.All()
	for i := range all {
		r := &all[i]
		r.EnrolledAt, r.Misused = f.past(r.EnrolledAt), f.past(r.Misused)
		f.host(r.Name).Roster = r
	}
	return err
}

// checkRoster detects that the roster has lost all its hosts since the last run, which
// counted before. Then hosts cannot be distinguished from unknown clients, and none is
// judged. It returns the count for the next run.
func (f *Facts) checkRoster(before int) int {
	n := 0
	for _, h := range f.Hosts {
		if h.Roster != nil {
			n++
		}
	}
	switch {
	case n > 0:
		return n
	case before == 0, f.Unread:
		return before
	}
	f.Broken = errors.Join(f.Broken, fmt.Errorf("%w: it had %d", errRoster, before))
	f.Unread, f.Away = true, append(f.Away, contacts.Span{To: f.Now})
	return before
}

// errRoster reports that the roster has lost its hosts.
var errRoster = errors.New("the roster has no hosts")

// indexError is a failure to read the index.
type indexError struct{ error }

// Unwrap returns the storage's error.
func (e indexError) Unwrap() error { return e.error }

// rowsSince returns since when rows of the index may say more than the contacts do, which have
// the last episode of each host: since their last write, or for all of Lookback if they began
// within it, or the clock jumped. So a run costs what is new, not what a day brought.
func (f *Facts) rowsSince() time.Time {
	const unsaved = 10 * time.Minute // far longer than serve keeps contacts in memory
	all, c := f.Now.Add(-f.Limits.Lookback), f.contacts
	jumped := slices.ContainsFunc(c.Receiver.Jumps, func(j contacts.Jump) bool { return j.At.After(all) })
	if c.BeganAt.IsZero() || c.BeganAt.After(all) || c.WrittenAt.After(f.Now) || jumped {
		return all
	}
	return later(all, c.WrittenAt.Add(-unsaved))
}

// lacksRows reports whether contacts lack the only episodes of a new host: serve was killed
// before it wrote them.
func (f *Facts) lacksRows() bool {
	for _, h := range f.Hosts {
		if h.Stored && h.Accepted.IsZero() && h.Roster != nil && h.Roster.EnrolledAt.After(f.Now.Add(-f.Limits.Lookback)) {
			return true
		}
	}
	return false
}

// accepted reads rows of the index. Rows of repairs and of the archive do not show activity of
// the host.
func (f *Facts) accepted(s Source, since time.Time) error {
	for r, err := range s.Index.Since(since) {
		if err != nil {
			return indexError{err}
		}
		if r.Archived {
			continue
		}
		h := f.host(r.Host)
		h.Stored = true
		if r.Repaired {
			continue
		}
		at := f.past(r.When())
		if c := f.contacts.Hosts[r.Host]; c == nil || c.LastAccepted.IsZero() || at.After(f.contacts.WrittenAt) {
			h.Accepted = later(h.Accepted, at)
		}
		if r.Commit == "" {
			h.Bare = later(h.Bare, at)
		} else {
			h.Stamped = later(h.Stamped, at)
		}
	}
	return nil
}

// refused reads the recent rejections of PUTs that were refused permanently.
func (f *Facts) refused(s Source, now time.Time) error {
	for r, err := range s.Rejections.Since(now.Add(-f.Limits.Lookback)) {
		if err != nil {
			return err
		}
		if r.Host == "" || !r.Verified || r.Route != receiver.RouteEpisode || !receiver.Permanent(r.Status) {
			continue
		}
		h := f.host(r.Host)
		r.First, r.Last = f.past(r.First), f.past(r.Last)
		known := f.contacts.Hosts[r.Host] != nil && f.contacts.Hosts[r.Host].LastRefused != nil && !r.Last.After(f.contacts.WrittenAt)
		switch {
		case !known && !r.Last.Before(h.Refused.At):
			h.Refused = Refusal{At: r.Last, Kind: string(r.Kind), Status: r.Status, Commit: string(r.Commit), Detail: r.Detail}
		case h.Refused.Kind == string(r.Kind):
			h.Refused.Commit = string(r.Commit) // contacts count repeats, without their commits
		}
		if !known && r.Last.After(h.Accepted) {
			first := r.First
			if !first.After(h.Accepted) {
				first = r.Last
			}
			if h.Since.IsZero() || first.Before(h.Since) {
				h.Since = first
			}
		}
	}
	return nil
}

func (h *Host) contact(c *contacts.Contact) {
	h.Accepted = later(h.Accepted, c.LastAccepted)
	h.Bare = later(h.Bare, c.LastUnstamped)
	if c.LastAccepted.After(c.LastUnstamped) {
		h.Stamped = later(h.Stamped, c.LastAccepted)
	}
	h.Failed = c.LastFailed
	if r := c.LastRefused; r != nil && receiver.Permanent(r.Status) {
		h.Refused = Refusal{At: r.At, Kind: string(r.Kind), Status: r.Status, Detail: r.Detail}
		h.Since = c.RefusedSince
	}
	h.Contact = Contact{
		At: c.LastPing, Any: c.LastContact, CertEnd: c.CertificateUntil, Leaving: c.Leaving, Uninstalled: c.Uninstalled, Back: c.BackAt,
		Offset:  time.Duration(c.ClockOffset * float64(time.Second)),
		Waiting: c.Queue.Waiting, Held: c.Queue.Held, Failing: c.Failing,
	}
	h.Version, h.Update = c.Version, c.Update
	for _, b := range c.Boots {
		if n := len(b.ID); n != len("00000000-0000-0000-0000-000000000000") && n != len("00000000000000000000000000000000") {
			continue // not a boot id: the host could not read it; in containers ids have no dashes
		}
		h.Boots = append(h.Boots, b)
	}
	// A verified failure takes precedence over unverified ones.
	if n := len(c.Verified); n > 0 {
		k := c.Verified[n-1]
		h.AuthFailure = AuthFailure{At: k.At, Kind: string(k.Kind), Detail: k.Detail, Valid: true}
	} else if n := len(c.Unverified); n > 0 {
		k := c.Unverified[n-1]
		h.AuthFailure = AuthFailure{At: k.At, Kind: string(k.Kind), Detail: k.Detail}
	}
}

// stored finds out which hosts without a recent episode have older ones.
func (f *Facts) stored(s Source) error {
	var unknown []ident.Host
	for name, h := range f.Hosts {
		if !h.everAccepted() {
			unknown = append(unknown, name)
		}
	}
	have, err := s.Episodes.Holders(unknown)
	for _, name := range have {
		f.Hosts[name].Stored = true
	}
	return err
}

// report reads a host's health report, unless a ping is newer.
func (h *Host) report(f *Facts, s Source, name ident.Host, d receiver.Doc) error {
	if f.Now.Sub(h.Contact.At) <= f.Limits.Fresh() && d.Saved.Before(h.Contact.At) {
		return nil
	}
	snap, err := contacts.ReadSnapshot(s.Docs, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, contacts.ErrSnapshot) {
		return nil // one host's damaged file does not stop the run
	}
	if err != nil {
		return err
	}
	h.Snapshot.At = f.past(snap.ReceivedAt)
	for _, row := range snap.Snapshot.Checks {
		if row.Status == check.Fail {
			h.Snapshot.Failing = append(h.Snapshot.Failing, check.Sanitize(row.ID, 64))
		}
	}
	return nil
}
