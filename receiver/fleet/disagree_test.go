package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// fact is something that is known of a host, and the reason that it gives where nothing
// newer contradicts it. An empty reason: it says that the host is well.
type fact struct {
	put    func(h *Host, at time.Time)
	reason string
}

// disagreeing returns facts of which any two can be there and disagree.
func disagreeing() map[string]fact {
	rejection := func(k wire.Kind) func(*Host, time.Time) {
		return func(h *Host, at time.Time) { h.AuthFailure = AuthFailure{At: at, Kind: string(k), Valid: true} }
	}
	ping := func(failing ...string) func(*Host, time.Time) {
		return func(h *Host, at time.Time) {
			h.Contact = Contact{At: at, Any: later(at, h.Contact.Any), Failing: failing}
		}
	}
	report := func(failing ...string) func(*Host, time.Time) {
		return func(h *Host, at time.Time) {
			h.Snapshot, h.Contact.Any = Snapshot{At: at, Failing: failing}, later(at, h.Contact.Any)
		}
	}
	return map[string]fact{
		"rejection: revoked":    {rejection(wire.CertRevoked), "certificate-revoked"},
		"rejection: expired":    {rejection(wire.CertExpired), "certificate-expired"},
		"rejection: bad bearer": {rejection(wire.BadBearer), "bad-token"},
		"rejection: other host": {rejection(wire.OtherHost), "other-host"},
		"ping: a check fails":   {ping("disk.reserve"), "failing-check"},
		"report: a check fails": {report("disk.reserve"), "failing-check"},
		"ping: all well":        {ping(), ""},
		"report: all well":      {report(), ""},
		"backlog": {func(h *Host, at time.Time) {
			h.Contact = Contact{At: at, Any: later(at, h.Contact.Any), Waiting: 30}
			h.Growth = Growth{Since: at.Add(-3 * time.Hour), Waiting: 10}
		}, "backlog"},
		"behind": {func(h *Host, at time.Time) {
			h.Contact.At, h.Contact.Any = later(at, h.Contact.At), later(at, h.Contact.Any)
			h.Version, h.Offered = "1", "2"
		}, ""},
	}
}

// TestJudge_TheNewerVerifiedFactNamesTheReason: of each two facts that disagree, in either
// order, every alert of the host has the reason of a rejection that is newer, and none of a
// rejection that is older.
func TestJudge_TheNewerVerifiedFactNamesTheReason(t *testing.T) {
	all := disagreeing()
	for oldName, old := range all {
		for newName, newer := range all {
			if kindOf(oldName) == kindOf(newName) {
				continue // one fact of a kind replaces the other
			}
			h := &Host{Roster: active(40 * day), Accepted: ago(3 * time.Hour)}
			h.Roster.CertExpires = now.Add(20 * day)
			old.put(h, ago(8*time.Minute))
			newer.put(h, ago(4*time.Minute))
			f := facts(h)
			f.Seen = map[Key]time.Time{}
			for _, s := range Symptoms() {
				f.Seen[Key{Host: "lab-01", Symptom: s}] = ago(30 * day)
			}
			found, _ := Judge(f)
			if len(found) == 0 {
				t.Errorf("%s, then %s: nothing was found", oldName, newName)
			}
			for _, x := range found {
				byRejection := kindOf(newName) == "rejection"
				if byRejection && x.Reason.Code != newer.reason {
					t.Errorf("%s, then %s: %s has the reason %s, want %s", oldName, newName, x.Symptom, x.Reason.Code, newer.reason)
				}
				if !byRejection && kindOf(oldName) == "rejection" && x.Reason.Code == old.reason {
					t.Errorf("%s, then %s: %s still has the reason %s", oldName, newName, x.Symptom, x.Reason.Code)
				}
				if strings.Contains(x.Fix, hostPlaceholder) {
					t.Errorf("%s: the fix does not name the host: %s", x.Symptom, x.Fix)
				}
			}
		}
	}
}

func kindOf(name string) string {
	kind, _, _ := strings.Cut(name, ":")
	return kind
}

// TestJudge_Readmitted: a host that was decommissioned and readmitted is named at once,
// with the token that it needs, whatever it reported before.
func TestJudge_Readmitted(t *testing.T) {
	for _, k := range []wire.Kind{wire.Decommission, wire.CertRevoked} {
		for _, failing := range [][]string{nil, {"receiver.auth"}} {
			h := &Host{
				Roster: &roster.Host{Name: "lab-01", State: roster.Pending, Since: ago(time.Minute)}, Accepted: ago(10 * time.Minute), Stored: true,
				Snapshot:    Snapshot{At: ago(20 * time.Minute), Failing: failing},
				AuthFailure: AuthFailure{At: ago(2 * time.Minute), Kind: string(k), Valid: true},
			}
			h.Contact.Any = h.Snapshot.At
			f := facts(h)
			found, _ := Judge(f)
			got := fmt.Sprintf("%+v", found)
			if len(found) != 1 || found[0].Symptom != DoctorFailing || found[0].Reason.Code != reasonRevoked ||
				!strings.HasPrefix(found[0].Fix, "on the receiver: sudo cis490 token create lab-01 ") {
				t.Errorf("%s, %v: %s", k, failing, got)
			}
			if next := f.Forecast("lab-01").Next; len(next) != 1 || !strings.Contains(next[0], "sudo cis490 token create lab-01") {
				t.Errorf("%s, %v: next is %q", k, failing, next)
			}
			h.Roster.TokenExpires = now.Add(time.Hour)
			if found, _ := Judge(f); failing == nil && len(found) > 0 {
				t.Errorf("%s: with a new token it is still %+v", k, found)
			}
			if next := f.Forecast(ident.Host("lab-01")).Next; len(next) != 1 || !strings.Contains(next[0], "join token is valid until") {
				t.Errorf("%s: with a new token, next is %q", k, next)
			}
		}
	}
	// One that may join for the first time was never rejected.
	f := facts(&Host{Roster: &roster.Host{Name: "lab-01", State: roster.Pending}})
	if found, _ := Judge(f); len(found) > 0 {
		t.Errorf("pending: %+v", found)
	}
	if next := f.Forecast("lab-01").Next; len(next) != 1 || !strings.Contains(next[0], "sudo cis490 token create lab-01") {
		t.Errorf("pending: next is %q", next)
	}
}
