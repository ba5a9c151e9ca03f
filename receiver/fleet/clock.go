package fleet

import (
	"fmt"
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver/contacts"
	"cis490/receiver/roster"
)

// past returns the time of a fact from a file other than the contacts, at the latest now.
func (f *Facts) past(t time.Time) time.Time { return f.contacts.Receiver.Past(t, f.Now) }

// bridge moves the times of the last run by the jump of the clock since then.
func (l *Last) bridge(now clock.Reading) {
	if l.Clock.Mark.Wall.IsZero() {
		l.Clock.Mark.Wall = l.At // an older version wrote it
	}
	shift, jumped := l.Clock.Advance(now)
	if !jumped {
		return
	}
	for i := range l.Seen {
		l.Seen[i].Since = shift.Move(l.Seen[i].Since)
	}
	for name, g := range l.Growth {
		g.Since = shift.Move(g.Since)
		l.Growth[name] = g
	}
}

// past replaces future times of firing alerts by when the alert was first seen, or now.
func (s *State) past(now time.Time, seen map[Key]time.Time) {
	for k, e := range s.Entries {
		for _, t := range []*time.Time{&e.Since, &e.Began} {
			if t.After(now) {
				*t = now
				if at := seen[k]; !at.IsZero() && at.Before(now) {
					*t = at
				}
			}
		}
		s.Entries[k] = e
	}
}

// clockWrong detects that the receiver's clock is wrong: by the hosts' clocks, if there
// are at least three or this clock is not synchronized, or by its own jumps, if nothing
// shows that it is right now.
func (f *Facts) clockWrong() (x Finding, wrong bool) {
	x = Finding{Symptom: ClockWrong, Reason: Reason{Code: "clock", Check: "clock.synced", Fix: fixClock}}
	unsynced := slices.ContainsFunc(f.Receiver, func(r check.Row) bool { return r.ID == "clock.synced" && r.Status == check.Warn })
	expired, active := f.expiredByJump()
	off, n := f.hostsOffset()
	if f.skewed = off.Abs() > skew && (n >= 3 || unsynced); f.skewed {
		x.Detail = fmt.Sprintf("the clocks of %d hosts differ from the receiver's, median %s", n, machine.HumanDuration(off.Abs()))
		x.Reason.Text = "most hosts have another time than the receiver"
		return x, true
	}
	jumps := f.contacts.Receiver.Jumps
	if expired > 0 && 2*expired >= active {
		x.Detail = fmt.Sprintf("clock jumped forward by %s, past the expiry of %d hosts' certificates", machine.HumanDuration(f.jumped), expired)
		x.Reason.Text = "hosts' certificates expired when the receiver's clock jumped"
		return x, true
	}
	if n > 0 || !unsynced || len(jumps) == 0 {
		return x, false
	}
	last := jumps[len(jumps)-1]
	if last.By.Abs() <= skew || f.Now.Sub(last.At) > f.Limits.Lookback {
		return x, false
	}
	way := "forward"
	if last.By < 0 {
		way = "back"
	}
	x.Detail = fmt.Sprintf("clock jumped %s by %s at %s", way, machine.HumanDuration(last.By.Abs()), plain.Time(last.At))
	x.Reason.Text = "the receiver's clock jumped, and nothing confirms its time"
	return x, true
}

// expiredByJump sets jumped to how far the clock jumped forward from where it was at any
// time of the lookback, jumpedAt to when it did so last, and returns how many hosts are
// overtaken, of how many. A clock that was behind for a while issued certificates that
// expire too soon.
func (f *Facts) expiredByJump() (n, active int) {
	by := time.Duration(0)
	f.jumped, f.jumpedAt = 0, time.Time{}
	for _, j := range slices.Backward(f.contacts.Receiver.Jumps) {
		if f.Now.Sub(j.At) <= f.Limits.Lookback {
			by += j.By
			f.jumped = max(f.jumped, by)
			if j.By > 0 {
				f.jumpedAt = later(f.jumpedAt, j.At)
			}
		}
	}
	for _, h := range f.Hosts {
		if h.Roster == nil || h.Roster.State != roster.Active {
			continue
		}
		if active++; f.overtaken(h) {
			n++
		}
	}
	return n, active
}

// overtaken reports whether a host's certificate expired because the receiver's clock
// jumped, which the host cannot fix. One that was issued after the jump was not.
func (f *Facts) overtaken(h *Host) bool {
	end := h.certEnd()
	if h.Roster == nil || h.Roster.CertExpires.Equal(end) && h.Roster.CertIssued.After(f.jumpedAt) {
		return false
	}
	return end.Before(f.Now) && end.After(f.Now.Add(-f.jumped))
}

// certEnd returns the end of the certificate that the host uses. A later one that was issued
// while the receiver's clock was ahead is not valid for the host yet.
func (h *Host) certEnd() time.Time {
	if h.Contact.CertEnd.IsZero() && h.Roster != nil {
		return h.Roster.CertExpires
	}
	return h.Contact.CertEnd
}

// lastCertEnd returns the end of the last certificate of a host in the roster: the one that
// was issued last, or a later one that the host uses because it could not install that.
func (h *Host) lastCertEnd() time.Time { return later(h.Roster.CertExpires, h.Contact.CertEnd) }

// ahead returns the spans in which the clock was ahead, past the end of a host's
// certificate, so that the receiver rejected the host.
func (f *Facts) ahead(h *Host) (all []contacts.Span) {
	jumps := f.contacts.Receiver.Jumps
	for i, j := range jumps {
		if j.By <= 0 || h.Roster == nil || h.Roster.State != roster.Active || !h.certEnd().Before(j.At.Add(j.By)) {
			continue
		}
		by := j.By
		for _, back := range jumps[i+1:] {
			if by += back.By; by < j.By/2 {
				all = append(all, contacts.Span{From: j.At, To: back.At})
				break
			}
		}
	}
	return all
}

// hostsOffset returns the median clock offset of the hosts with a fresh ping, and their
// number. For fewer than three hosts it is the smallest offset, if all have the same sign.
func (f *Facts) hostsOffset() (time.Duration, int) {
	var all []time.Duration
	for _, h := range f.Hosts {
		if !h.Contact.At.IsZero() && f.Now.Sub(h.Contact.At) <= f.Limits.Fresh() {
			all = append(all, h.Contact.Offset)
		}
	}
	slices.Sort(all)
	switch n := len(all); {
	case n >= 3:
		return all[n/2], n
	case n > 0 && all[0] > 0:
		return all[0], n
	case n > 0 && all[n-1] < 0:
		return all[n-1], n
	default:
		return 0, n
	}
}
