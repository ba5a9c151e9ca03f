package contacts

import (
	"time"

	"cis490/internal/clock"
	"cis490/internal/ident"
)

// Bridge moves the stored times by the jump of the receiver's clock since they were
// written, and reports whether there was one. A Recorder calls it by itself; readers of
// the file call it once.
func (c *Contacts) Bridge(now clock.Reading) bool {
	line := &c.Receiver.Clock
	if line.Mark.Wall.IsZero() {
		line.Mark.Wall = c.WrittenAt // an older version wrote it
	}
	shift, jumped := line.Advance(now)
	//off:clock_Jump
	if !jumped {
		return false
	}
	c.move(shift)
	c.Receiver.Jumps = latest(append(c.Receiver.Jumps, Jump{At: line.Mark.Wall, By: shift.After}), maxJumps)
	return true
}

// LastJump returns the last jump of the clock, or none.
func (r Receiver) LastJump() (j Jump) {
	if n := len(r.Jumps); n > 0 {
		j = r.Jumps[n-1]
	}
	return j
}

// Past corrects the time of a past event that is stored elsewhere, if it is later than
// now: it subtracts the latest backward jumps of the clock. The result is never later
// than now.
func (r Receiver) Past(t, now time.Time) time.Time {
	for i := len(r.Jumps) - 1; i >= 0 && t.After(now); i-- {
		if j := r.Jumps[i]; j.By < 0 {
			t = t.Add(j.By)
		}
	}
	if t.After(now) {
		return now
	}
	return t
}

// Past is Receiver.Past by the jumps so far.
func (b *Recorder) Past(t time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c.Receiver.Past(t, b.now())
}

// move moves all times. It replaces lists, because copies may share them.
func (c *Contacts) move(s clock.Shift) {
	c.WrittenAt, c.BeganAt = s.Move(c.WrittenAt), s.Move(c.BeganAt)
	r := &c.Receiver
	r.StartedAt = s.Move(r.StartedAt)
	r.Outages = moved(r.Outages, func(o *Span) { o.From, o.To = s.Move(o.From), s.Move(o.To) })
	r.Jumps = moved(r.Jumps, func(j *Jump) { j.At = s.Move(j.At) })
	if r.Compared != nil {
		compared := *r.Compared
		compared.At = s.Move(compared.At)
		r.Compared = &compared
	}
	failures := func(all []AuthFailure) []AuthFailure {
		return moved(all, func(k *AuthFailure) { k.At, k.Since = s.Move(k.At), s.Move(k.Since) })
	}
	c.UnknownClients = failures(c.UnknownClients)
	hosts := make(map[ident.Host]*Contact, len(c.Hosts))
	for name, old := range c.Hosts {
		h := *old
		for _, t := range []*time.Time{
			&h.LastContact, &h.LastPing, &h.LeavingAt, &h.BackAt, &h.LastAccepted, &h.RefusedSince, &h.LastUnstamped, &h.LastFailed,
		} {
			*t = s.Move(*t)
		}
		h.Boots = moved(h.Boots, func(b *Boot) { b.First, b.Last = s.Move(b.First), s.Move(b.Last) })
		if h.LastRefused != nil {
			refused := *h.LastRefused
			refused.At = s.Move(refused.At)
			h.LastRefused = &refused
		}
		h.Verified, h.Unverified = failures(h.Verified), failures(h.Unverified)
		hosts[name] = &h
	}
	c.Hosts = hosts
}

func moved[T any](all []T, move func(*T)) []T {
	out := append([]T(nil), all...)
	for i := range out {
		move(&out[i])
	}
	return out
}
