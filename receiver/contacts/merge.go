package contacts

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// merge returns what two receivers know of a host. It prefers the newer ping and the newer
// upload, whatever the order; merging the same again changes nothing.
func merge(a, b *Contact) *Contact {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	if b.LastContact.After(a.LastContact) {
		a, b = b, a
	}
	n := *a // the newer contact
	old, last := b, a
	if b.LastPing.After(a.LastPing) {
		old, last = a, b
	}
	n.LastPing, n.Version, n.Commit, n.Queue, n.ClockOffset = last.LastPing, last.Version, last.Commit, last.Queue, last.ClockOffset
	n.Failing, n.Leaving, n.LeavingAt, n.Uninstalled = last.Failing, last.Leaving, last.LeavingAt, last.Uninstalled
	n.OS, n.Arch, n.Update, n.Hardware = last.OS, last.Arch, last.Update, cmp.Or(last.Hardware, old.Hardware)
	if n.OS == "" { // the ping of a host that leaves is shorter
		n.OS, n.Arch, n.Update = old.OS, old.Arch, old.Update
	}
	n.BackAt = later(a.BackAt, b.BackAt)
	if old.Leaving && !last.Leaving && last.LastPing.After(old.LeavingAt) && n.BackAt.Before(old.LeavingAt) {
		n.BackAt = last.LastPing
	}
	n.Boots = mergeBoots(a.Boots, b.Boots)
	n.mergeUploads(a, b)
	n.LastFailed, n.LastUnstamped = later(a.LastFailed, b.LastFailed), later(a.LastUnstamped, b.LastUnstamped)
	n.Verified, n.Unverified = mergeFailures(a.Verified, b.Verified), mergeFailures(a.Unverified, b.Unverified)
	return &n
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// mergeUploads merges the results of uploads. Only refusals after the last acceptance count.
func (c *Contact) mergeUploads(a, b *Contact) {
	c.LastAccepted = later(a.LastAccepted, b.LastAccepted)
	c.LastRefused, c.RefusedSince, c.RefusedCount = a.LastRefused, time.Time{}, 0
	if a.LastRefused == nil || b.LastRefused != nil && b.LastRefused.At.After(a.LastRefused.At) {
		c.LastRefused = b.LastRefused
	}
	for _, x := range []*Contact{a, b} {
		if x.RefusedSince.IsZero() || x.LastRefused == nil || !x.LastRefused.At.After(c.LastAccepted) {
			continue
		}
		since := later(x.RefusedSince, c.LastAccepted)
		if c.RefusedSince.IsZero() || since.Before(c.RefusedSince) {
			c.RefusedSince = since
		}
		c.RefusedCount = max(c.RefusedCount, x.RefusedCount)
	}
}

func mergeBoots(a, b []Boot) []Boot {
	all := slices.Clone(a)
	for _, x := range b {
		i := slices.IndexFunc(all, func(y Boot) bool { return y.ID == x.ID })
		if i < 0 {
			all = append(all, x)
			continue
		}
		if x.First.Before(all[i].First) {
			all[i].First = x.First
		}
		all[i].Last = later(all[i].Last, x.Last)
	}
	slices.SortStableFunc(all, func(x, y Boot) int { return cmp.Or(x.Last.Compare(y.Last), strings.Compare(x.ID, y.ID)) })
	return latest(all, maxBoots)
}

func mergeFailures(a, b []AuthFailure) []AuthFailure {
	all := slices.Clone(a)
	for _, x := range b {
		i := slices.IndexFunc(all, func(y AuthFailure) bool { return y.Kind == x.Kind && y.Name == x.Name })
		if i < 0 {
			all = append(all, x)
			continue
		}
		y, since := all[i], all[i].Since
		if x.Since.Before(since) {
			since = x.Since
		}
		if x.At.After(y.At) {
			x, y = y, x
		}
		y.Since, y.Count = since, max(x.Count, y.Count)
		all[i] = y
	}
	slices.SortStableFunc(all, func(x, y AuthFailure) int {
		return cmp.Or(x.At.Compare(y.At), strings.Compare(string(x.Kind), string(y.Kind)))
	})
	return latest(all, maxAuthFailures)
}

// unavailable returns when no receiver accepted episodes: the spans that the outages of all
// receivers have in common. Until its first start, and after its last sign of life, a receiver
// accepted none.
func unavailable(all []Contacts, now time.Time) (common []Span) {
	common = []Span{{To: now}}
	for _, c := range all {
		own := []Span{{To: c.BeganAt}}
		for _, o := range c.Receiver.Outages {
			if o.To.IsZero() {
				o.To = now
			}
			own = append(own, o)
		}
		if c.Receiver.Ready && now.Sub(c.WrittenAt) > lostAfter {
			own = append(own, Span{From: c.WrittenAt, To: now})
		}
		common = intersect(common, own)
	}
	if n := len(common); n > 0 && common[n-1].To.Equal(now) {
		common[n-1].To = time.Time{}
	}
	if len(common) > 0 && common[0].From.IsZero() { // before the first start
		common = common[1:]
	}
	return latest(common, maxOutages)
}

func intersect(a, b []Span) (out []Span) {
	for _, x := range a {
		for _, y := range b {
			s := Span{From: later(x.From, y.From), To: x.To}
			if y.To.Before(s.To) {
				s.To = y.To
			}
			if s.From.Before(s.To) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(x, y Span) int { return x.From.Compare(y.From) })
	return out
}
