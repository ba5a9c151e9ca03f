package fleet

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// scene is a receiver's data folder.
type scene struct {
	t    *testing.T
	dir  string
	sent []string
}

func newScene(t *testing.T) *scene { t.Helper(); return &scene{t: t, dir: t.TempDir()} }

// on is the backend of a data folder on a disk.
func on(fsys disk.FS, dir string) receiver.Backend {
	return local.Open(local.Options{FS: fsys, Dir: dir})
}

func onDisk(dir string) receiver.Backend { return on(disk.OS{}, dir) }

func (s *scene) write(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) json(name string, v any) {
	s.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(name, string(b)+"\n")
}

func row(host ident.Host, at time.Time) string {
	b, _ := json.Marshal(
		receiver.Entry{
			V:          1,
			ReceivedAt: at,
			Host:       host,
			Episode:    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
			Digest:     ident.Digest(strings.Repeat("ab", 32)),
			Commit:     ident.Commit(strings.Repeat("a", 40)),
		},
	)
	return string(b) + "\n"
}

func (s *scene) run(at time.Time, change func(*Options)) (Result, error) {
	s.t.Helper()
	o := Options{
		Source: Source{Backend: onDisk(s.dir), Roster: local.Roster(disk.OS{}, s.dir)}, Limits: limits(), Now: at,
		Known: facts(nil).Known, Log: slog.New(slog.DiscardHandler),
		Syslog: func(a Alert) error { s.sent = append(s.sent, a.Line()); return nil },
	}
	if change != nil {
		change(&o)
	}
	return Run(o)
}

func (s *scene) must(at time.Time) Result {
	s.t.Helper()
	r, err := s.run(at, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func symptoms(all []Alert) string {
	var got []string
	for _, a := range all {
		if a.State != opening {
			got = append(got, strings.TrimSpace(a.Host+" "+a.Symptom+" "+a.State))
		}
	}
	return strings.Join(got, ", ")
}

func TestRun_SilentAndResolved(t *testing.T) {
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(31*time.Minute))+row("lab-02", ago(time.Minute)))
	if got := symptoms(s.must(now).Rows); got != "lab-01 silent firing" {
		t.Errorf("rows: %s", got)
	}
	if got := symptoms(s.must(now.Add(5 * time.Minute)).Rows); got != "" {
		t.Errorf("five minutes later: %s", got)
	}
	s.write(local.IndexFile, row("lab-01", ago(31*time.Minute))+row("lab-02", now.Add(8*time.Minute))+row("lab-01", now.Add(8*time.Minute)))
	r := s.must(now.Add(10 * time.Minute))
	if got := symptoms(r.Rows); got != "lab-01 silent resolved" || len(r.Open) != 0 {
		t.Errorf("after it shipped: %s, open %v", got, r.Open)
	}
	want := []string{
		`cis490 fleet-alert host=lab-01 symptom=silent state=firing since=2026-02-28T23:39:00Z reason="no contact since ` +
			`2026-02-28 23:39:00 UTC" fix="on lab-01: sudo cis490 doctor   # once it is switched on; look at its network, too" detail="no ` +
			`episode since 2026-02-28 23:39:00 UTC"`,
		`cis490 fleet-alert host=lab-01 symptom=silent state=resolved since=2026-02-28T23:39:00Z reason="" fix="" detail=""`,
	}
	if diff := cmp.Diff(want, s.sent); diff != "" {
		t.Error(diff)
	}
	last, err := ReadLast(onDisk(s.dir))
	if err != nil || !last.At.Equal(now.Add(10*time.Minute)) || last.Hosts != 2 {
		t.Errorf("last run: %+v, %v", last, err)
	}
}

// TestRun_FactsMayBeDamaged: torn, endless and foreign lines hide nothing else.
func TestRun_FactsMayBeDamaged(t *testing.T) {
	s := newScene(t)
	junk := `{"received_at":"` + ago(40*time.Minute).Format(time.RFC3339) + `","host":"` + strings.Repeat("x", 1<<20) + "\"}\n" +
		`{"received_at":"` + ago(40*time.Minute).Format(time.RFC3339) + `","host":7}` + "\n" + "no JSON\n"
	more := strings.Replace(row("lab-01", ago(35*time.Minute)), `{"v":1`, `{"v":9,"new":{"a":[1]}`, 1)
	s.write(local.IndexFile, junk+more+`{"received_at":"`+now.Format(time.RFC3339)+`","host":"lab-01"`)
	s.write(local.RejectionsFile, junk)
	s.write(receiver.ContactsDoc, "{")
	s.write(receiver.FleetCheckDoc, "{")
	r := s.must(now)
	if got := symptoms(r.Rows); got != "@receiver data-broken firing, lab-01 silent firing" {
		t.Errorf("rows: %s", got)
	}
	if len(r.Errors) != 1 {
		t.Errorf("the contacts' damage is not sent: %v", r.Errors)
	}
}

// TestRun_UnreadFactsEndNothing: an alert is not resolved because what showed it
// could not be read; it is once it can be read again.
func TestRun_UnreadFactsEndNothing(t *testing.T) {
	snapshot := filepath.Join(receiver.HealthReports, "lab-02.json")
	for _, broken := range []string{local.IndexFile, receiver.ContactsDoc, local.RosterFile, snapshot} {
		t.Run(broken, func(t *testing.T) {
			s := newScene(t)
			s.write(local.IndexFile, row("lab-01", ago(31*time.Minute)))
			failing := `{"v":1,"received_at":"` + ago(
				time.Minute,
			).Format(
				time.RFC3339,
			) + `","snapshot":{"checks":[{"id":"disk.reserve","status":"fail","hard":true}]}}`
			s.write(snapshot, failing)
			s.json(receiver.ContactsDoc, contacts.Contacts{WrittenAt: now.Add(time.Hour), Hosts: map[ident.Host]*contacts.Contact{"lab-02": {}}})
			s.json(
				local.RosterFile,
				roster.Event{At: ago(2 * time.Hour), Host: "lab-03", Event: roster.Enrolled, Expires: now.Add(20 * 24 * time.Hour)},
			)
			s.must(now.Add(-5 * time.Minute))
			if got := symptoms(s.must(now).Open); got != "lab-01 silent firing, lab-02 doctor-failing firing, lab-03 never-reported firing" {
				t.Fatalf("before: %s", got)
			}
			path := filepath.Join(s.dir, broken)
			_ = os.Rename(path, path+".away")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			r := s.must(now.Add(5 * time.Minute))
			if got := symptoms(r.Rows); got != "@receiver data-broken firing" || len(r.Open) != 4 || len(r.Errors) != 1 {
				t.Errorf("while %s cannot be read: rows %q, open %q, sent %v", broken, got, symptoms(r.Open), r.Errors)
			}
			for _, a := range r.Open {
				if a.Fix == "" || a.Reason == "" || a.Detail == "" {
					t.Errorf("kept without its words: %+v", a)
				}
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			_ = os.Rename(path+".away", path)
			s.write(snapshot, strings.Replace(failing, `"fail"`, `"ok"`, 1))
			s.write(local.IndexFile, row("lab-01", now.Add(9*time.Minute))+row("lab-03", now.Add(9*time.Minute)))
			if got := symptoms(s.must(now.Add(10 * time.Minute)).Rows); got != "@receiver data-broken resolved, lab-01 silent resolved,"+
				" lab-02 doctor-failing resolved, lab-03 never-reported resolved" {
				t.Errorf("after it was well and read again: %s", got)
			}
		})
	}
}

// TestRun_RepairedAndArchivedRowsAreNoNews: a repair after a crash must not look
// like a host that ships.
func TestRun_RepairedAndArchivedRowsAreNoNews(t *testing.T) {
	s := newScene(t)
	r := strings.Replace(row("lab-01", ago(time.Minute)), `}`, `,"repaired":true}`, 1)
	a := strings.Replace(row("lab-01", ago(time.Minute)), `}`, `,"archived":true}`, 1)
	s.write(local.IndexFile, row("lab-01", ago(40*time.Minute))+r+a)
	if got := symptoms(s.must(now).Rows); got != "lab-01 silent firing" {
		t.Errorf("rows: %s", got)
	}
}

// TestRun_OnlyRefusalsForGoodCount: 408, 429 and 5xx raise no alert.
func TestRun_OnlyRefusalsForGoodCount(t *testing.T) {
	for status, want := range map[int]string{
		400: "lab-01 fatal-only firing", 412: "lab-01 fatal-only firing", 408: "", 429: "", 503: "", 507: "",
	} {
		s := newScene(t)
		s.json(
			local.RejectionsFile,
			receiver.Rejection{
				V:        1,
				At:       ago(time.Minute),
				Host:     "lab-01",
				Verified: true,
				Route:    receiver.RouteEpisode,
				Status:   status,
				Kind:     wire.Gated,
				Count:    1,
				First:    ago(time.Minute),
				Last:     ago(time.Minute),
			},
		)
		s.json(
			receiver.ContactsDoc,
			contacts.Contacts{
				WrittenAt: now,
				Hosts: map[ident.Host]*contacts.Contact{
					"lab-01": {LastPing: now, LastRefused: &contacts.Refused{At: ago(time.Minute), Status: status}},
				},
			},
		)
		if got := symptoms(s.must(now).Rows); got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
	}
}

// TestRun_FatalOnlyHoldsUntilOneIsTaken: a day after the last refusal, a receiver
// that is busy or broken does not end the alert.
func TestRun_FatalOnlyHoldsUntilOneIsTaken(t *testing.T) {
	s := newScene(t)
	at := ago(time.Minute)
	b := contacts.Open(contacts.Options{Docs: onDisk(s.dir).Docs, Now: func() time.Time { return at }, Log: slog.New(slog.DiscardHandler)})
	check := func(want string) {
		t.Helper()
		if err := b.Save(); err != nil {
			t.Fatal(err)
		}
		if got := symptoms(s.must(at.Add(time.Minute)).Open); got != want {
			t.Errorf("at %s: %q, want %q", at, got, want)
		}
	}
	const firing = "lab-01 fatal-only firing"
	b.RefusedPut("lab-01", wire.NewProblem(wire.Gated, "not in the list"))
	check(firing)
	for _, kind := range []wire.Kind{wire.Busy, wire.NotReady} {
		at = at.Add(25 * time.Hour)
		b.RefusedPut("lab-01", wire.NewProblem(kind, "later"))
		check(firing)
	}
	b.Accepted("lab-01", "c")
	check("")
}

// TestRun_AForgedNameExplainsNothing: a request without a valid certificate chain does
// not explain a host's silence; one with a valid chain does.
func TestRun_AForgedNameExplainsNothing(t *testing.T) {
	failure := []contacts.AuthFailure{{At: ago(time.Minute), Since: ago(time.Minute), Count: 1, Kind: wire.CertExpired, Detail: "forged"}}
	for want, c := range map[string]*contacts.Contact{
		"nothing":             {Unverified: failure},
		"certificate-expired": {Unverified: failure, Verified: failure},
	} {
		s := newScene(t)
		s.write(local.IndexFile, row("lab-01", ago(31*time.Minute)))
		s.json(
			receiver.ContactsDoc,
			contacts.Contacts{WrittenAt: now, Receiver: contacts.Receiver{Ready: true}, Hosts: map[ident.Host]*contacts.Contact{"lab-01": c}},
		)
		r := s.must(now)
		if len(r.Open) != 1 || r.Open[0].Code != want || strings.Contains(r.Open[0].Reason, "forged") == (want == "nothing") {
			t.Errorf("want %s: %+v", want, r.Open)
		}
	}
}

// TestRun_ReceiverAway: a serve that stopped writing its contacts 44 minutes ago
// took nothing since.
func TestRun_ReceiverAway(t *testing.T) {
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(45*time.Minute)))
	s.json(receiver.ContactsDoc, contacts.Contacts{WrittenAt: ago(44 * time.Minute), Receiver: contacts.Receiver{Ready: true}})
	if got := symptoms(s.must(now).Rows); got != "" {
		t.Errorf("while it is away: %s", got)
	}
	s.json(
		receiver.ContactsDoc,
		contacts.Contacts{
			WrittenAt: now,
			Receiver:  contacts.Receiver{Ready: true, Outages: []contacts.Span{{From: ago(44 * time.Minute), To: ago(time.Minute)}}},
		},
	)
	if got := symptoms(s.must(now.Add(time.Minute)).Rows); got != "" {
		t.Errorf("when it is back: %s", got)
	}
}

func TestRun_DryRunLeavesNoFile(t *testing.T) {
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(31*time.Minute)))
	r, err := s.run(now, func(o *Options) { o.DryRun = true })
	if err != nil || symptoms(r.Rows) != "lab-01 silent firing" || len(s.sent) > 0 {
		t.Errorf("%s, %v, sent %v", symptoms(r.Rows), err, s.sent)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// TestRun_RepeatsRatherThanLoses: if the row cannot be written, the next run sends it
// again.
func TestRun_RepeatsRatherThanLoses(t *testing.T) {
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(31*time.Minute)))
	r, err := s.run(now, func(o *Options) { o.Backend = on(full{disk.OS{}}, s.dir) })
	if got := symptoms(r.Open); err != nil || got != "@receiver data-broken firing, lab-01 silent firing" {
		t.Errorf("got %v, open %q", err, got)
	}
	if got := symptoms(s.must(now.Add(5 * time.Minute)).Rows); got != "lab-01 silent firing" || len(s.sent) != 3 {
		t.Errorf("%s, sent %v", got, s.sent)
	}
}

var errFull = errors.New("no space left")

// full is a disk on which nothing can be created.
type full struct{ disk.OS }

func (f full) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	if flag&os.O_CREATE != 0 {
		return nil, errFull
	}
	return f.OS.OpenFile(name, flag, perm)
}

// TestRun_HostileTextStaysInert: a host's text appears in lines, rows and fixes as
// sanitized text only.
func TestRun_HostileTextStaysInert(t *testing.T) {
	s := newScene(t)
	const evil = "x\"; rm -rf /\n\x1b[31m<script>$(reboot)_" // as long as a boot id
	s.write(local.IndexFile, row("lab-01", ago(40*time.Minute)))
	s.json(
		receiver.ContactsDoc,
		contacts.Contacts{WrittenAt: now, Receiver: contacts.Receiver{Ready: true}, Hosts: map[ident.Host]*contacts.Contact{"lab-01": {
			LastPing: now, LastContact: now, Failing: []string{evil, evil}, Boots: []contacts.Boot{
				{ID: evil, First: ago(time.Hour), Last: now}, {ID: "b" + evil[1:], First: ago(time.Minute), Last: now},
			},
			Version: evil,
		}}},
	)
	s.json(
		"host-health/lab-01.json",
		contacts.Snapshot{
			Host:       "lab-01",
			ReceivedAt: now.Add(time.Second),
			Snapshot:   check.Report{Checks: []check.Row{{ID: "i", Status: check.Fail, Fix: "f"}}},
		},
	)
	s.json(receiver.FleetCheckDoc, Last{At: ago(5 * time.Minute), Seen: []Sight{{"lab-01", DoctorFailing, ago(5 * time.Minute)}}})
	r := s.must(now)
	if got := symptoms(r.Rows); got != "lab-01 cloned firing, lab-01 doctor-failing firing, lab-01 silent firing" {
		t.Errorf("rows: %s", got)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, local.AlertsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(s.sent, strings.Split(strings.TrimSpace(string(b)), "\n")...) {
		if strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, "<script>") && !strings.HasPrefix(text, "cis490 fleet-alert") {
			t.Errorf("not inert: %q", text)
		}
	}
	for _, a := range r.Rows {
		if strings.Contains(a.Fix, "rm -rf") || strings.Contains(a.Fix, "reboot") {
			t.Errorf("a host's text is in a fix: %s", a.Fix)
		}
	}
	for _, x := range s.sent {
		if n := strings.Count(x, `"`) - 2*strings.Count(x, `\"`)/2; strings.Count(strings.ReplaceAll(x, `\"`, ""), `"`) != 6 {
			t.Errorf("quotes broke out (%d): %s", n, x)
		}
	}
}

// TestRun_SnapshotCountsWithoutPings: while the shipper is stopped, the daily health
// report gives the reason.
func TestRun_SnapshotCountsWithoutPings(t *testing.T) {
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(40*time.Minute)))
	report := check.Report{Checks: []check.Row{{ID: "disk.reserve", Status: check.Fail}, {ID: "kvm.device", Status: check.Warn}}}
	s.json("host-health/lab-01.json", contacts.Snapshot{Host: "lab-01", ReceivedAt: ago(10 * time.Minute), Snapshot: report})
	r := s.must(now)
	if len(r.Open) != 1 || r.Open[0].Code != "failing-check" || r.Open[0].Fix != "on lab-01: fix disk.reserve" {
		t.Errorf("%+v", r.Open)
	}
}
