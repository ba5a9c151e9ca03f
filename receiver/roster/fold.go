package roster

import (
	"maps"
	"time"

	"cis490/internal/ident"
)

// fold applies an event. It never changes a Host that was returned: maps are copied
// before they are written. It ignores kinds of newer versions.
func fold(hosts map[ident.Host]Host, e Event) {
	h, known := hosts[e.Host]
	h.Name = e.Host
	switch e.Event {
	case TokenMade:
		if !known || h.State == "" {
			h.become(Pending, e.At)
		}
		h.TokenExpires = e.Expires
		h.Misused, h.MisusedFrom = time.Time{}, "" // the token is void
	case TokenRevoked:
		h.TokenExpires = time.Time{}
		if h.State == Pending { // nothing of it remains
			delete(hosts, e.Host)
			return
		}
	case TokenMisused:
		h.Misused, h.MisusedFrom = e.At, e.From
	case Enrolled:
		h.become(Active, e.At)
		h.EnrolledAt, h.TokenExpires = e.At, time.Time{}
		h.Bearer, h.Other = e.Bearer, e.Other
		h.valid = nil
		h.issue(e)
		if old, ok := hosts[e.Other]; ok && e.Other != e.Host {
			old.become(Gone, e.At)
			old.Other, old.TokenExpires = e.Host, time.Time{}
			hosts[e.Other] = old
		}
	case Renewed:
		h.issue(e)
	case Decommissioned:
		h.become(Gone, e.At)
		h.TokenExpires = time.Time{}
	case Readmitted:
		h = Host{Name: e.Host} // the earlier key and bearer are void
		h.become(Pending, e.At)
	default:
		return
	}
	hosts[e.Host] = h
}

func (h *Host) become(s State, at time.Time) {
	if h.State != s {
		h.State, h.Since = s, at
	}
}

// maxValid is how many valid certificates of a host are stored: the last one, those whose
// answers were lost, and those of a host that requests too many.
const maxValid = 64

// issue adds a certificate. It removes expired ones, which their dates invalidate, and
// the oldest of too many, so that the list stays small.
func (h *Host) issue(e Event) {
	valid := make(map[string]time.Time, len(h.valid)+1)
	maps.Copy(valid, h.valid)
	maps.DeleteFunc(valid, func(_ string, expires time.Time) bool { return expires.Before(e.At) })
	for len(valid) >= maxValid {
		oldest := ""
		for serial, expires := range valid {
			if oldest == "" || expires.Before(valid[oldest]) {
				oldest = serial
			}
		}
		delete(valid, oldest)
	}
	valid[e.Serial] = e.Expires
	h.valid, h.Key, h.CertIssued, h.CertExpires = valid, e.Key, e.At, e.Expires
}
