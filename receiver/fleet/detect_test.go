package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/roster"
)

// The tests' now is just after midnight, so that windows cross a day.
var now = time.Date(2026, 3, 1, 0, 10, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func limits() Limits {
	return Limits{SilentAfter: 30 * time.Minute, Lookback: 24 * time.Hour, NeverReported: time.Hour}
}

func facts(h *Host) *Facts {
	return &Facts{
		Now: now, Limits: limits(), Hosts: map[ident.Host]*Host{"lab-01": h},
		Known: func(id string) (check.Check, bool) {
			all := testChecks()
			if i := slices.IndexFunc(all, func(c check.Check) bool { return c.ID == id }); i >= 0 {
				return all[i], true
			}
			return check.Check{}, false
		},
	}
}

func testChecks() (all []check.Check) {
	for _, id := range []string{
		"disk.reserve", "cert.expiry", "gate.commit", "bearer.present", "clock.offset", "outbox.oldest", "episodes.recent",
		"version.stamp", "receiver.auth",
	} {
		all = append(all, check.Check{ID: id, Title: "Title of " + id, Fix: "on the lab host: fix " + id})
	}
	return all
}

func active(enrolled time.Duration) *roster.Host {
	return &roster.Host{
		Name:        "lab-01",
		State:       roster.Active,
		EnrolledAt:  ago(enrolled),
		CertIssued:  ago(10 * 24 * time.Hour),
		CertExpires: now.Add(20 * 24 * time.Hour),
	}
}

func refused(at time.Duration, k wire.Kind) Refusal {
	return Refusal{At: ago(at), Kind: string(k), Status: wire.AnswerOf(k).Status, Commit: strings.Repeat("a", 40)}
}

const day = 24 * time.Hour

func TestJudge_Edges(t *testing.T) {
	seconds := func(m, s int) time.Duration { return time.Duration(m)*time.Minute + time.Duration(s)*time.Second }
	for name, c := range map[string]struct {
		h    Host
		away []contacts.Span
		want string // symptoms and codes of reasons
	}{
		"ships":                         {Host{Roster: active(day), Accepted: ago(time.Minute)}, nil, ""},
		"silent 29:59":                  {Host{Accepted: ago(seconds(29, 59))}, nil, ""},
		"silent 30:00":                  {Host{Accepted: ago(seconds(30, 0))}, nil, ""},
		"silent 30:01":                  {Host{Accepted: ago(seconds(30, 1))}, nil, "silent/nothing"},
		"silent for a day":              {Host{Accepted: ago(day)}, nil, "silent/nothing"},
		"beyond a day, in no roster":    {Host{Accepted: ago(day + 1)}, nil, ""},
		"beyond a day":                  {Host{Roster: active(48 * time.Hour), Accepted: ago(day + 1)}, nil, "gone/nothing"},
		"beyond a day, times forgotten": {Host{Roster: active(72 * time.Hour), Stored: true}, nil, "gone/nothing"},
		"decommissioned": {
			Host{Roster: &roster.Host{State: roster.Gone}, Accepted: ago(time.Hour), Bare: ago(time.Minute)}, nil, "",
		},
		"receiver was down for it all": {Host{Accepted: ago(45 * time.Minute)}, []contacts.Span{{From: ago(44 * time.Minute), To: now}}, ""},
		"receiver was down 20 of 45": {
			Host{Accepted: ago(45 * time.Minute)}, []contacts.Span{{From: ago(40 * time.Minute), To: ago(20 * time.Minute)}}, "",
		},
		"receiver was down 10 of 45": {
			Host{Accepted: ago(45 * time.Minute)}, []contacts.Span{{From: ago(40 * time.Minute), To: ago(30 * time.Minute)}}, "silent/nothing",
		},
		"receiver down before it": {
			Host{Accepted: ago(45 * time.Minute)}, []contacts.Span{{From: ago(3 * time.Hour), To: ago(2 * time.Hour)}}, "silent/nothing",
		},
		"receiver was off for three days": {
			Host{Roster: active(9 * day), Accepted: ago(3 * day)}, []contacts.Span{{From: ago(3 * day), To: ago(5 * time.Minute)}}, "",
		},

		"alive, nothing recorded": {Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute)}}, nil, "silent/not-recording"},
		"alive, all waits": {
			Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Waiting: 3}}, nil, "silent/not-shipping",
		},
		"alive, all held": {Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Held: 3}}, nil, "silent/gated"},
		"alive, clock off": {
			Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Offset: -48 * time.Hour}}, nil, "silent/clock",
		},
		"alive, a check fails": {
			Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Failing: []string{"disk.reserve"}}}, nil, "silent/failing-check",
		},
		"a ping too old to speak": {Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(16 * time.Minute)}}, nil, "silent/nothing"},
		"alive, refused code":     {Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Gated: "no"}}, nil, "silent/gated"},
		"back for a minute":       {Host{Accepted: ago(9 * time.Hour), Contact: Contact{At: ago(time.Minute), Back: ago(time.Minute)}}, nil, ""},
		"back for 31 minutes": {
			Host{Accepted: ago(9 * time.Hour), Contact: Contact{At: ago(time.Minute), Back: ago(31 * time.Minute)}}, nil, "silent/not-recording",
		},
		"left": {
			Host{Accepted: ago(time.Hour), Contact: Contact{At: ago(50 * time.Minute), Any: ago(50 * time.Minute), Leaving: true}},
			nil,
			"silent/left quiet",
		},
		"left, gone": {
			Host{Roster: active(9 * day), Accepted: ago(2 * day), Contact: Contact{At: ago(2 * day), Leaving: true}}, nil, "gone/left",
		},
		"uninstalled": {
			Host{Roster: active(9 * day), Accepted: ago(2 * day), Contact: Contact{At: ago(2 * day), Leaving: true, Uninstalled: true}},
			nil, "",
		},
		"certificate expired, knocked": {
			Host{Accepted: ago(time.Hour), AuthFailure: AuthFailure{At: ago(time.Minute), Kind: string(wire.CertExpired), Valid: true}},
			nil,
			"silent/certificate-expired",
		},
		"bad bearer": {
			Host{Accepted: ago(time.Hour), AuthFailure: AuthFailure{At: ago(time.Minute), Kind: string(wire.BadBearer), Valid: true}},
			nil,
			"silent/bad-token",
		},
		"a forged knock explains nothing": {
			Host{Accepted: ago(time.Hour), AuthFailure: AuthFailure{At: ago(time.Minute), Kind: string(wire.CertExpired)}}, nil, "silent/nothing",
		},
		"contact after the knock": {
			Host{
				Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Any: ago(time.Minute)},
				AuthFailure: AuthFailure{At: ago(2 * time.Minute), Kind: string(wire.BadBearer), Valid: true},
			},
			nil, "silent/not-recording",
		},
		"expired by the roster": {
			Host{Roster: &roster.Host{State: roster.Active, EnrolledAt: ago(40 * day), CertExpires: ago(day)}, Accepted: ago(time.Hour)},
			nil,
			"silent/certificate-expired",
		},

		"refused since it shipped 31 minutes ago": {
			Host{Accepted: ago(31 * time.Minute), Refused: refused(time.Minute, wire.Gated)}, nil, "fatal-only/gated silent/gated",
		},
		"refused, but shipped within the window": {Host{Accepted: ago(29 * time.Minute), Refused: refused(time.Minute, wire.Gated)}, nil, ""},
		"refused before it shipped":              {Host{Accepted: ago(time.Minute), Refused: refused(2*time.Minute, wire.Gated)}, nil, ""},
		"only ever refused":                      {Host{Refused: refused(time.Minute, wire.Gated)}, nil, "fatal-only/gated"},
		"only ever refused, a day ago":           {Host{Refused: refused(day+1, wire.Gated)}, nil, ""},

		"unstamped":                {Host{Bare: ago(time.Hour), Accepted: ago(time.Minute)}, nil, "unstamped/unstamped"},
		"unstamped, stamped since": {Host{Bare: ago(time.Hour), Stamped: ago(time.Minute), Accepted: ago(time.Minute)}, nil, ""},
		"unstamped and stamped within 30 min": {
			Host{Bare: ago(seconds(30, 0)), Stamped: ago(time.Minute), Accepted: ago(time.Minute)}, nil, "unstamped/unstamped",
		},

		"enrolled 59:59 ago": {Host{Roster: active(seconds(59, 59))}, nil, ""},
		"enrolled 60:01 ago": {Host{Roster: active(seconds(60, 1))}, nil, "never-reported/nothing"},
		"enrolled, pings": {
			Host{Roster: active(2 * time.Hour), Contact: Contact{At: ago(time.Minute)}}, nil, "never-reported/not-recording",
		},
		"token at hand":        {Host{Roster: &roster.Host{State: roster.Pending, TokenExpires: now.Add(time.Hour)}}, nil, ""},
		"token ran out 59 ago": {Host{Roster: &roster.Host{State: roster.Pending, TokenExpires: ago(59 * time.Minute)}}, nil, ""},
		"token ran out 61 ago": {
			Host{Roster: &roster.Host{State: roster.Pending, TokenExpires: ago(61 * time.Minute)}}, nil, "never-reported/token-unused",
		},
		"its token was revoked": {Host{Roster: &roster.Host{State: roster.Pending}}, nil, ""},

		"not renewed": {
			Host{
				Roster:   &roster.Host{State: roster.Active, EnrolledAt: ago(26 * day), CertIssued: ago(26 * day), CertExpires: now.Add(4 * day)},
				Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute)},
			},
			nil, "cert-expiring/not-renewed",
		},
		// Each certificate is judged by its own validity, whatever cert_life is today.
		"a year's certificate": {
			Host{
				Roster:   &roster.Host{State: roster.Active, EnrolledAt: ago(26 * day), CertIssued: ago(315 * day), CertExpires: now.Add(50 * day)},
				Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute)},
			},
			nil, "cert-expiring/not-renewed",
		},
		"a three days' one": {
			Host{
				Roster:   &roster.Host{State: roster.Active, EnrolledAt: ago(2 * day), CertIssued: ago(2 * day), CertExpires: now.Add(day)},
				Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute)},
			},
			nil, "",
		},
		"uses an older certificate that ends later than the last one": {
			Host{
				Roster:   &roster.Host{State: roster.Active, EnrolledAt: ago(26 * day), CertIssued: ago(day), CertExpires: ago(time.Hour)},
				Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute), CertEnd: now.Add(6 * day)},
			},
			nil, "",
		},
		"time enough": {
			Host{
				Roster:   &roster.Host{State: roster.Active, EnrolledAt: ago(24 * day), CertIssued: ago(24 * day), CertExpires: now.Add(6 * day)},
				Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute)},
			},
			nil, "",
		},

		"outbox grew": {
			Host{Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute), Waiting: 30}, Growth: Growth{ago(61 * time.Minute), 5}},
			nil,
			"backlog-growing/backlog",
		},
		"grew for 59 min": {
			Host{Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute), Waiting: 30}, Growth: Growth{ago(59 * time.Minute), 5}},
			nil,
			"",
		},
		"grew by a little": {
			Host{Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute), Waiting: 14}, Growth: Growth{ago(5 * time.Hour), 5}}, nil, "",
		},
		"rebooted": {
			Host{
				Accepted: ago(time.Minute),
				Boots: []contacts.Boot{
					{ID: "a", First: ago(9 * time.Hour), Last: ago(8 * time.Hour)}, {ID: "b", First: ago(7 * time.Hour), Last: ago(time.Minute)},
				},
			},
			nil, "",
		},
		"token tried by a thief": {
			Host{Accepted: ago(time.Minute), Roster: &roster.Host{State: roster.Active, CertExpires: now.Add(20 * day), Misused: ago(time.Hour)}},
			nil, "token-misused/token-stolen",
		},
		"that was long ago": {
			Host{
				Accepted: ago(time.Minute), Roster: &roster.Host{State: roster.Active, CertExpires: now.Add(20 * day), Misused: ago(25 * time.Hour)},
			},
			nil, "",
		},
		"two under one name": {
			Host{
				Accepted: ago(time.Minute),
				Boots: []contacts.Boot{
					{ID: "a", First: ago(9 * time.Hour), Last: ago(3 * time.Minute)}, {ID: "b", First: ago(7 * time.Hour), Last: ago(time.Minute)},
				},
			},
			nil, "cloned/two-machines",
		},
		"were two, long ago": {
			Host{
				Accepted: ago(time.Minute),
				Boots: []contacts.Boot{
					{ID: "a", First: ago(9 * time.Hour), Last: ago(6 * time.Hour)}, {ID: "b", First: ago(7 * time.Hour), Last: ago(time.Minute)},
				},
			},
			nil, "",
		},
	} {
		f := facts(&c.h)
		f.Away = c.away
		found, _ := Judge(f)
		f.Now = now.Add(7 * time.Minute)
		later, _ := Judge(f)
		var got []string
		for _, x := range found {
			// The detail is stored when the alert fires and read later: it has times, not ages.
			i := slices.IndexFunc(later, func(y Finding) bool { return y.Symptom == x.Symptom })
			if i >= 0 && later[i].Detail != x.Detail {
				t.Errorf("%s: the detail changes with the time: %s, then %s", name, x.Detail, later[i].Detail)
			}
			s := x.Symptom + "/" + x.Reason.Code
			if x.Quiet {
				s += " quiet"
			}
			got = append(got, s)
			if x.Reason.Text == "" || x.Fix == "" || x.Detail == "" || x.Since.IsZero() || x.Since.After(now) {
				t.Errorf("%s: %s is incomplete: %+v", name, x.Symptom, x)
			}
			if a := alertOf(x, now); OwnFixes([]Alert{a}, testChecks())[0].Fix != a.Fix {
				t.Errorf("%s: the fix is not among this version's own: %s", name, a.Fix)
			}
			if strings.Contains(x.Fix, "HOST") || strings.Contains(x.Fix, "the lab host") {
				t.Errorf("%s: the fix names no machine: %s", name, x.Fix)
			}
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestJudge_FatalOnlyHolds: a host that holds its episodes after the first
// refusal is still refused a day later, until one is taken.
func TestJudge_FatalOnlyHolds(t *testing.T) {
	k := Key{Host: "lab-01", Symptom: FatalOnly}
	since := ago(3 * day)
	for name, c := range map[string]struct {
		accepted time.Time
		want     int
	}{"nothing taken": {time.Time{}, 1}, "taken before": {ago(4 * day), 1}, "taken since": {ago(2 * day), 0}} {
		f := facts(&Host{Accepted: c.accepted, Refused: refused(3*day, wire.Gated)})
		f.Held = map[Key]Entry{k: {Firing: true, Since: since}}
		if found, _ := Judge(f); len(found) != c.want {
			t.Errorf("%s: %+v", name, found)
		}
		f.Held = nil
		if found, _ := Judge(f); len(found) != 0 {
			t.Errorf("%s: fires again: %+v", name, found)
		}
	}
}

// TestJudge_FailingChecksMustLast: transient failures between two runs raise no alert;
// firing alerts continue at once.
func TestJudge_FailingChecksMustLast(t *testing.T) {
	h := &Host{Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute), Failing: []string{"un.known", "disk.reserve"}}}
	f := facts(h)
	found, seen := Judge(f)
	if len(found) != 0 || len(seen) != 1 {
		t.Fatalf("at once: %+v, %v", found, seen)
	}
	f.Seen, f.Now = seen, now.Add(5*time.Minute)
	h.Contact.At = f.Now
	found, _ = Judge(f)
	if len(found) != 1 || found[0].Fix != "on lab-01: fix disk.reserve" || !found[0].Since.Equal(now) {
		t.Fatalf("later: %+v", found)
	}
	f.Seen, f.Held = nil, map[Key]Entry{{Host: "lab-01", Symptom: DoctorFailing}: {Firing: true}}
	if found, _ = Judge(f); len(found) != 1 {
		t.Errorf("a firing one stopped as its sighting was forgotten: %+v", found)
	}
	h.Snapshot, h.Contact = Snapshot{At: f.Now, Failing: nil}, Contact{At: ago(time.Minute), Failing: []string{"disk.reserve"}}
	if found, _ = Judge(f); len(found) != 0 {
		t.Errorf("a newer snapshot without failures does not count: %+v", found)
	}
}

// TestJudge_AFaultIsNotOverAsItsHostFellSilent: an alert that a host's ping raised stays
// open until another ping resolves it, or the host was silent for the whole Lookback; a
// new one needs a fresh ping.
func TestJudge_AFaultIsNotOverAsItsHostFellSilent(t *testing.T) {
	for name, c := range map[string]struct {
		said   time.Duration // time since the host's last ping
		firing bool
		want   string
	}{
		"fresh":                {time.Minute, false, "backlog-growing doctor-failing stale-version"},
		"silent, never sent":   {16 * time.Minute, false, ""},
		"silent, sent":         {16 * time.Minute, true, "backlog-growing doctor-failing stale-version"},
		"silent for a day":     {day, true, "backlog-growing doctor-failing stale-version"},
		"silent for a day + 1": {day + 1, true, ""},
	} {
		f := facts(&Host{
			Accepted: ago(c.said), Version: "1", Offered: "2", Growth: Growth{ago(c.said + 2*time.Hour), 5},
			Contact: Contact{At: ago(c.said), Any: ago(c.said), Waiting: 30, Failing: []string{"disk.reserve"}},
		})
		f.Seen, f.Held = map[Key]time.Time{}, map[Key]Entry{}
		for _, symptom := range []string{DoctorFailing, StaleVersion, BacklogGrowing} {
			f.Seen[Key{Host: "lab-01", Symptom: symptom}] = ago(2 * day)
			f.Held[Key{Host: "lab-01", Symptom: symptom}] = Entry{Firing: c.firing}
		}
		found, _ := Judge(f)
		var got []string
		for _, x := range found {
			if x.Symptom != Silent {
				got = append(got, x.Symptom)
			}
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestJudge_BlockedCodeHasAnotherFix: to accept it would change nothing.
func TestJudge_BlockedCodeHasAnotherFix(t *testing.T) {
	blocked := refused(time.Minute, wire.Gated)
	blocked.Blocked = true
	for name, h := range map[string]*Host{
		"runs it": {Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Gated: "blocked", Blocked: true}},
		"sent it": {Accepted: ago(time.Hour), Refused: blocked},
		"its doctor": {
			Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Hour), Gated: "blocked", Blocked: true},
			Snapshot: Snapshot{At: ago(time.Minute), Failing: []string{"gate.commit"}},
		},
		"not blocked": {Accepted: ago(time.Hour), Contact: Contact{At: ago(time.Minute), Gated: "unknown"}},
	} {
		found, _ := Judge(facts(h))
		if len(found) == 0 {
			t.Errorf("%s: nothing", name)
		}
		for _, x := range found {
			if got := strings.Contains(x.Fix, "blocked_commits"); got != (name != "not blocked") || x.Reason.Code != "gated" {
				t.Errorf("%s: %s: %s", name, x.Reason.Text, x.Fix)
			}
		}
	}
}

// The reason of a receiver that is not ready because of its object store is the store.
func TestJudge_TheObjectStore(t *testing.T) {
	f := facts(&Host{Accepted: ago(time.Minute)})
	f.Receiver = []check.Row{
		{ID: "receiver.ready", Status: check.Fail, Hard: true, Fix: "look"},
		{ID: "units.active", Status: check.Fail, Hard: true, Fix: "start"},
		{ID: "store.bucket", Status: check.Fail, Hard: true, Fix: "mend"},
	}
	f.Seen = map[Key]time.Time{{Host: Receiver, Symptom: DoctorFailing}: ago(time.Hour)}
	found, _ := Judge(f)
	if len(found) != 1 || found[0].Symptom != DoctorFailing || found[0].Reason.Code != "store.bucket" || found[0].Reason.Fix != "mend" {
		t.Errorf("%+v", found)
	}
}

func TestJudge_TheReceiverItself(t *testing.T) {
	f := facts(&Host{Accepted: ago(time.Minute)})
	f.Receiver = []check.Row{
		{ID: "disk.reserve", Status: check.Warn, Fix: "free"},
		{ID: "disk.days", Status: check.Warn, Fix: "more"},
		{ID: "ledger.index", Status: check.Fail, Hard: true, Detail: "owned by root", Fix: "chown"},
		{ID: "units.restarts", Status: check.Warn},
		{ID: "receiver.ready", Status: check.Fail, Hard: true, Fix: "look"},
		{ID: "backup.age", Status: check.Warn, Detail: "made later than now"}, // by a wrong clock
	}
	f.Seen = map[Key]time.Time{{Host: Receiver, Symptom: DoctorFailing}: ago(time.Hour)}
	for i := range 3 {
		f.Hosts[ident.Host(fmt.Sprintf("lab-1%d", i))] = &Host{
			Accepted: ago(time.Minute),
			Contact:  Contact{At: ago(time.Minute), Offset: time.Hour},
		}
	}
	found, _ := Judge(f)
	var got []string
	for _, x := range found {
		got = append(got, x.Host+" "+x.Symptom+": "+x.Fix)
	}
	want := []string{
		"@receiver clock: " + fixClock,
		"@receiver disk-low: free",
		"@receiver doctor-failing: look",
		"@receiver index-broken: chown",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
