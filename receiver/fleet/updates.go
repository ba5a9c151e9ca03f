package fleet

import (
	"fmt"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/plain"
)

// behindFor is how long a host may run another version than the offered one, which
// leaves time for a trial, and for a person to examine it.
const behindFor = 24 * time.Hour

// rolledBackFor is how long the alert about a rollback lasts. A newer release that
// passes its trial on the host resolves it at once.
const rolledBackFor = 24 * time.Hour

// staleVersion: the host is online and does not run the offered version for a day.
func staleVersion(f *Facts, name ident.Host, h *Host) (Finding, bool) {
	if h.Offered == "" || h.Version == "" || h.Version == h.Offered || !f.hasFreshPing(name, StaleVersion, h.Contact.At) {
		return Finding{}, false
	}
	r := Reason{Code: "not-updated", Text: "autoupdate does not run or fails", Fix: fixNotUpdated}
	switch u := h.Update; {
	case u == nil:
		r.Code, r.Text = "no-updates", "it has no automatic updates"
		r.Fix = fixNoUpdates
	case u.Refused != "":
		r.Code, r.Text = "update-refused", "it refuses the release: "+check.Sanitize(u.Refused, 200)
	case u.Trial != nil:
		r.Code, r.Text = "trial", fmt.Sprintf("version %s is on trial since %s", check.Sanitize(u.Trial.Version, 40), plain.Time(u.Trial.Since))
		if u.Trial.Waiting != "" {
			r.Text += ", waiting for " + check.Sanitize(u.Trial.Waiting, 100)
		}
	case len(u.RolledBack) > 0 && u.RolledBack[len(u.RolledBack)-1].Version == h.Offered:
		r.Code, r.Text = "rolled-back", "it tried the release and rolled back: "+check.Sanitize(u.RolledBack[len(u.RolledBack)-1].Why, 200)
	}
	return Finding{
		Detail: fmt.Sprintf("runs version %s, offered is %s", check.Sanitize(h.Version, 40), check.Sanitize(h.Offered, 40)),
		Reason: f.orReceiverFault("releases.signed", r),
	}, true
}

// updateRolledBack: a release failed on the host, which rolled it back.
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
		Detail: fmt.Sprintf("version %s was rolled back at %s; version %s runs", version, plain.Time(b.At), check.Sanitize(h.Version, 40)),
		Reason: Reason{
			Code: "rolled-back", Text: "the new version failed: " + check.Sanitize(b.Why, 200),
			Fix: strings.Replace(fixRolledBack, seqPlaceholder, fmt.Sprintf("--seq %d", b.Seq), 1),
		},
	}, true
}
