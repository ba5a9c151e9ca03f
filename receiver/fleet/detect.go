package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver/roster"
)

// The symptoms.
const (
	Silent         = "silent"
	FatalOnly      = "fatal-only"
	Unstamped      = "unstamped"
	NeverReported  = "never-reported"
	Gone           = "gone"
	DoctorFailing  = "doctor-failing"
	CertExpiring   = "cert-expiring"
	BacklogGrowing = "backlog-growing"
	Cloned         = "cloned"
	TokenMisused   = "token-misused"
	StaleVersion   = "stale-version"
	RolledBack     = "update-rolled-back"
	DiskLow        = "disk-low"
	IndexBroken    = "index-broken"
	BackupOld      = "backup-old"
	ClockWrong     = "clock"
	DataBroken     = "data-broken"
)

// detector detects one symptom of a host.
type detector func(f *Facts, name ident.Host, h *Host) (Finding, bool)

// detectors returns the detectors of hosts by symptom.
func detectors() map[string]detector {
	return map[string]detector{
		Silent:        silent,
		FatalOnly:     fatalOnly,
		Unstamped:     unstamped,
		NeverReported: neverReported,
		//off:14_NeverReportedAndGone
		Gone:           gone,
		DoctorFailing:  doctorFailing,
		CertExpiring:   certExpiring,
		BacklogGrowing: backlogGrowing,
		//off:16_Cloned
		Cloned:       cloned,
		TokenMisused: tokenMisused,
		StaleVersion: staleVersion,
		RolledBack:   updateRolledBack,
	}
}

// IsSymptom reports whether s is a symptom.
func IsSymptom(s string) bool { return slices.Contains(Symptoms(), s) }

// Symptoms returns the symptoms of hosts and of the receiver, sorted.
func Symptoms() []string {
	all := slices.AppendSeq([]string{DiskLow, IndexBroken, BackupOld, ClockWrong, DataBroken}, maps.Keys(detectors()))
	slices.Sort(all)
	return all
}

// Judge returns the findings that count now, ordered by host and symptom, and the time
// at which each finding was first seen, including those that have not lasted long enough.
func Judge(f *Facts) (findings []Finding, seen map[Key]time.Time) {
	seen = map[Key]time.Time{}
	add := func(x Finding, lasting time.Duration) {
		since, ok := f.Seen[x.Key()]
		if !ok {
			since = f.Now
		}
		seen[x.Key()] = since
		if f.Now.Sub(since) < lasting && !f.Held[x.Key()].Firing {
			return
		}
		if x.Since.IsZero() {
			x.Since = since
		}
		x.Fix = f.fix(x)
		findings = append(findings, x)
	}
	own := receiverFindings(f) // first: hosts are judged by this clock
	away := f.Away
	defer func() { f.Away = away }()
	for _, name := range slices.Sorted(maps.Keys(f.Hosts)) {
		h := f.Hosts[name]
		f.Away = slices.Concat(away, f.ahead(h))
		if h.Roster != nil && h.Roster.State == roster.Gone {
			continue
		}
		for symptom, found := range detectors() {
			if h.Contact.Uninstalled && symptom != Cloned && symptom != TokenMisused {
				continue
			}
			if f.overtaken(h) && !f.Held[Key{Host: string(name), Symptom: symptom}].Firing {
				continue // rejected because of the receiver's clock
			}
			if x, ok := found(f, name, h); ok {
				x.Host, x.Symptom = string(name), symptom
				if h.rejected() && !ownEvidence(x) {
					x.Reason = f.authFailure(h)
				}
				add(x, f.lasting(x))
			}
		}
	}
	for _, x := range own {
		x.Host = Receiver
		add(x, f.lasting(x))
	}
	slices.SortFunc(findings, func(a, b Finding) int {
		return strings.Compare(a.Host+" "+a.Symptom, b.Host+" "+b.Symptom)
	})
	return findings, seen
}

// lasting returns how long a finding must last before it counts.
func (f *Facts) lasting(x Finding) time.Duration {
	switch x.Symptom {
	case DoctorFailing, BackupOld: // a wrong clock is detected by then
		if x.Reason.Code == reasonRevoked {
			return 0 // the roster knows, whatever the clock
		}
		return f.Limits.steady()
	case StaleVersion:
		return behindFor
	}
	return 0
}

// silent: an episode was accepted within Lookback, but none within SilentAfter.
func silent(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	if h.Accepted.IsZero() || f.Now.Sub(h.Accepted) > f.Limits.Lookback ||
		f.silentFor(h.lastActivity(h.Contact.Back)) <= f.Limits.SilentAfter {
		return Finding{}, false
	}
	r := f.silenceReason(h, h.Accepted)
	return Finding{
		Since: h.Accepted, Reason: r,
		//off:21_FalseAlarms
		Quiet:  r.Code == reasonLeft,
		Detail: "no episode since " + plain.Time(h.Accepted),
	}, true
}

// gone: silent for longer than Lookback, and not decommissioned.
func gone(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	if h.Roster == nil || h.Roster.State != roster.Active || !h.everAccepted() || f.Unread {
		return Finding{}, false
	}
	since := later(h.Accepted, h.Roster.EnrolledAt)
	if f.Now.Sub(since) <= f.Limits.Lookback || f.silentFor(h.lastActivity(since)) <= f.Limits.SilentAfter {
		return Finding{}, false
	}
	detail := fmt.Sprintf("no episode for more than %s", machine.HumanDuration(f.Limits.Lookback))
	if !h.Accepted.IsZero() {
		detail = "no episode since " + plain.Time(h.Accepted)
	}
	r := f.silenceReason(h, since)
	if r.Code == reasonNothing || r.Code == reasonLeft {
		r.Fix = fixGone
	}
	return Finding{Since: since, Detail: detail, Reason: r}, true
}

func (h *Host) everAccepted() bool { return !h.Accepted.IsZero() || h.Stored }

// neverReported: its join token was used or expired, and no episode was accepted since.
func neverReported(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	if h.Roster == nil || h.everAccepted() || f.Unread || h.Unread { // its episodes may be in a file that cannot be read
		return Finding{}, false
	}
	switch h.Roster.State {
	case roster.Active:
		if f.silentFor(later(h.lastActivity(h.Roster.EnrolledAt), f.contacts.BeganAt)) <= f.Limits.NeverReported || f.neverOpened() {
			return Finding{}, false
		}
		return Finding{
			Since: h.Roster.EnrolledAt, Reason: f.silenceReason(h, h.Roster.EnrolledAt),
			Detail: fmt.Sprintf("enrolled at %s, no episode since", plain.Time(h.Roster.EnrolledAt)),
		}, true
	case roster.Pending:
		ran := h.Roster.TokenExpires
		if ran.IsZero() || f.silentFor(ran) <= f.Limits.NeverReported {
			return Finding{}, false
		}
		return Finding{
			Since: ran, Detail: fmt.Sprintf("its join token expired at %s and was never used", plain.Time(ran)),
			Reason: Reason{Code: "token-unused", Text: "its join token was never used", Fix: fixUnused},
		}, true
	}
	return Finding{}, false
}

// neverOpened reports whether serve has never been ready. Before that it writes no
// contacts.
func (f *Facts) neverOpened() bool {
	_, fails := f.fails(readyCheck)
	return fails && f.contacts.WrittenAt.IsZero()
}

// fatalOnly: every PUT is refused permanently. It ends with the next accepted one.
func fatalOnly(f *Facts, name ident.Host, h *Host) (Finding, bool) {
	r := h.Refused
	if r.At.IsZero() || !r.At.After(h.Accepted) {
		return Finding{}, false
	}
	since := h.Since
	if since.IsZero() {
		since = r.At
	}
	held, firing := f.Held[Key{Host: string(name), Symptom: FatalOnly}]
	firing = firing && held.Firing && !h.Accepted.After(held.Since)
	if firing {
		since = held.Since
	} else if f.Now.Sub(r.At) > f.Limits.Lookback || f.silentFor(h.lastActivity(time.Time{})) <= f.Limits.SilentAfter {
		return Finding{}, false
	}
	return Finding{
		Since: since, Reason: f.refusal(r),
		Detail: fmt.Sprintf("every episode since %s was refused, the last one at %s with %d", plain.Time(since), plain.Time(r.At), r.Status),
	}, true
}

// unstamped: its episodes have no commit.
func unstamped(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	age := f.Now.Sub(h.Bare)
	if h.Bare.IsZero() || age > f.Limits.Lookback || (h.Stamped.After(h.Bare) && age > f.Limits.SilentAfter) {
		return Finding{}, false
	}
	return Finding{
		Detail: fmt.Sprintf("an episode without a code commit at %s", plain.Time(h.Bare)),
		Reason: Reason{Code: "unstamped", Text: "its build carries no commit", Check: "version.stamp"},
	}, true
}

// doctorFailing: a hard check fails, by the newer of ping and health report.
func doctorFailing(f *Facts, name ident.Host, h *Host) (Finding, bool) {
	ids, at := h.failing(f)
	if len(ids) == 0 && !h.Contact.At.Before(h.Snapshot.At) && f.hasFreshPing(name, DoctorFailing, h.Contact.At) {
		ids, at = h.Contact.Failing, h.Contact.At
	}
	if len(ids) == 0 && h.needsToken(f.Now) && f.Now.Sub(h.AuthFailure.At) <= f.Limits.Lookback {
		return Finding{Detail: fmt.Sprintf("rejected at %s", plain.Time(h.AuthFailure.At)), Reason: f.authFailure(h)}, true
	}
	if len(ids) == 0 {
		return Finding{}, false
	}
	return Finding{
		Detail: fmt.Sprintf("failing at %s: %s", plain.Time(at), strings.Join(ids, ", ")),
		Reason: f.failing(h, ids),
	}, true
}

// hasFreshPing reports whether a ping of a time counts for a symptom. While the symptom
// is firing, pings count for the whole Lookback: a silent host does not resolve it.
func (f *Facts) hasFreshPing(name ident.Host, symptom string, at time.Time) bool {
	most := f.Limits.Fresh()
	if f.Held[Key{Host: string(name), Symptom: symptom}].Firing {
		most = f.Limits.Lookback
	}
	return f.Now.Sub(at) <= most
}

// failing returns the ids of the failing hard checks and their time, by a ping or health
// report that is recent enough.
func (h *Host) failing(f *Facts) ([]string, time.Time) {
	if f.Now.Sub(h.Contact.At) <= f.Limits.Fresh() && !h.Contact.At.Before(h.Snapshot.At) {
		return h.Contact.Failing, h.Contact.At
	}
	if f.Now.Sub(h.Snapshot.At) <= 25*time.Hour && !h.Snapshot.At.Before(h.Contact.At) {
		skewed := func(id string) bool { return f.skewed && id == offsetCheck }
		return slices.DeleteFunc(slices.Clone(h.Snapshot.Failing), skewed), h.Snapshot.At
	}
	return nil, time.Time{}
}

// certExpiring: in the last sixth of its validity, and the host is online.
func certExpiring(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	if h.Roster == nil || h.Roster.State != roster.Active || h.Roster.CertExpires.IsZero() {
		return Finding{}, false
	}
	last := later(h.Contact.At, h.AuthFailure.At)
	end := h.lastCertEnd()
	if !h.Roster.Ending(end, f.Now.Add(-f.jumped)) || f.Now.Sub(last) > f.Limits.Lookback {
		return Finding{}, false
	}
	r := Reason{Code: "not-renewed", Text: "renewal does not work", Check: "cert.expiry"}
	detail := "certificate expires at " + plain.Time(end)
	if !end.After(f.Now) {
		detail = "certificate expired at " + plain.Time(end)
		r = Reason{Code: reasonExpired, Text: detail, Check: "cert.expiry"}
	}
	return Finding{Detail: detail, Reason: f.orReceiverFault("authority.reachable", r)}, true
}

// backlogGrowing: for Limits.trend the outbox has only grown, by at least a half and ten
// episodes.
func backlogGrowing(f *Facts, name ident.Host, h *Host) (Finding, bool) {
	g, n := h.Growth, h.Contact.Waiting
	if g.Since.IsZero() || !f.hasFreshPing(name, BacklogGrowing, h.Contact.At) || f.silentFor(later(g.Since, h.Failed)) < f.Limits.trend() ||
		n-g.Waiting < 10 || 2*n < 3*g.Waiting {
		return Finding{}, false
	}
	return Finding{
		Since:  g.Since,
		Detail: fmt.Sprintf("%d episodes wait, %d at %s", n, g.Waiting, plain.Time(g.Since)),
		Reason: Reason{Code: "backlog", Text: "it records faster than it ships, or shipping hangs", Check: "outbox.oldest"},
	}, true
}

// cloned: pings alternate between two boot ids, so that two machines use one name. After
// a reboot the old id does not return.
func cloned(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	for i, a := range h.Boots {
		for _, b := range h.Boots[i+1:] {
			from, to := later(a.First, b.First), a.Last
			if b.Last.Before(to) {
				to = b.Last
			}
			if !to.After(from) || f.Now.Sub(to) > f.Limits.trend() {
				continue
			}
			return Finding{
				Since: from, Detail: fmt.Sprintf("boot ids %.8s and %.8s take turns", check.Sanitize(a.ID, 40), check.Sanitize(b.ID, 40)),
				Reason: Reason{Code: "two-machines", Text: "two machines use this host's credentials", Fix: fixTwoMachines},
			}, true
		}
	}
	return Finding{}, false
}
