package fleet

import (
	"fmt"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/machine"
)

// behindFor is how long a host may run another version than the one that it is
// offered: time for a trial, and for a person to look.
const behindFor = 24 * time.Hour

// rolledBackFor is how long a rollback is worth an alert; a newer release that is
// proven on the host ends it at once.
const rolledBackFor = 24 * time.Hour

// staleVersion: for a day the host is there and does not run what it is offered.
func staleVersion(f *Facts, name ident.Host, h *Host) (Finding, bool) {
	if h.Offered == "" || h.Version == "" || h.Version == h.Offered || !f.hasFreshPing(name, StaleVersion, h.Contact.At) {
		return Finding{}, false
	}
	r := Reason{Code: "not-updated", Text: "autoupdate does not run, or fails", Fix: fixNotUpdated}
	switch u := h.Update; {
	case u == nil:
		r.Code, r.Text = "no-updates", "nothing keeps it on releases"
		r.Fix = fixNoUpdates
	case u.Refused != "":
		r.Code, r.Text = "update-refused", "it does not take the release: "+check.Sanitize(u.Refused, 200)
	case u.Trial != nil:
		r.Code, r.Text = "trial", fmt.Sprintf("version %s is on trial there since %s", check.Sanitize(u.Trial.Version, 40), stamp(u.Trial.Since))
		if u.Trial.Waiting != "" {
			r.Text += ", waiting for " + check.Sanitize(u.Trial.Waiting, 100)
		}
	case len(u.RolledBack) > 0 && u.RolledBack[len(u.RolledBack)-1].Version == h.Offered:
		r.Code, r.Text = "rolled-back", "it tried the release and went back: "+check.Sanitize(u.RolledBack[len(u.RolledBack)-1].Why, 200)
	}
	return Finding{
		Detail: fmt.Sprintf("runs version %s, is offered %s", check.Sanitize(h.Version, 40), check.Sanitize(h.Offered, 40)),
		Reason: f.orReceiverFault("releases.signed", r),
	}, true
}

// updateRolledBack: a release failed on the host, which went back by itself.
func updateRolledBack(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	if h.Update == nil || len(h.Update.RolledBack) == 0 {
		return Finding{}, false
	}
	b := h.Update.RolledBack[len(h.Update.RolledBack)-1]
	if b.Seq == 0 || h.Update.Good.Seq >= b.Seq || f.Now.Sub(b.At) > rolledBackFor || b.At.After(f.Now.Add(skew)) {
		return Finding{}, false
	}
	version := check.Sanitize(b.Version, 40)
	return Finding{
		Since:  b.At,
		Detail: fmt.Sprintf("version %s was tried and rolled back at %s, %s ago; version %s runs", version, stamp(b.At), machine.HumanDuration(max(f.Now.Sub(b.At), 0)), check.Sanitize(h.Version, 40)),
		Reason: Reason{
			Code: "rolled-back", Text: "the new version failed there: " + check.Sanitize(b.Why, 200),
			Fix: strings.Replace(fixRolledBack, seqPlaceholder, fmt.Sprintf("--seq %d", b.Seq), 1),
		},
	}, true
}
