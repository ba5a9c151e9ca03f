package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/disk/sickdisk"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

// notified returns the alerts that were sent to syslog since the last call.
func (s *scene) notified() string {
	var all []string
	for _, line := range s.sent {
		f := strings.Fields(line)
		all = append(all, strings.TrimPrefix(f[2], "host=")+" "+strings.TrimPrefix(f[3], "symptom=")+" "+strings.TrimPrefix(f[4], "state="))
	}
	s.sent = nil
	return strings.Join(all, ", ")
}

// rows returns the rows of alerts.jsonl, and at which minute each was.
func (s *scene) rows() string {
	s.t.Helper()
	var all []string
	for a, err := range on(disk.OS{}, s.dir).Alerts.Since(time.Time{}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if a.State != opening {
			all = append(all, a.At.Format("04 ")+a.Host+" "+a.Symptom+" "+a.State)
		}
	}
	return strings.Join(all, ", ")
}

// TestRun_TheDataFolderFails: whatever fails in the data folder, the run judges, sends
// each finding and the fault itself once; when the folder works again, all rows are
// written with their original times, and nothing is sent twice.
func TestRun_TheDataFolderFails(t *testing.T) {
	for name, c := range map[string]struct {
		fails func(op, path string) bool
		err   error
		fix   string
		blind bool // hosts cannot be judged
	}{
		"full":           {func(op, _ string) bool { return op == "write" }, unix.ENOSPC, fixNoSpace, false},
		"without inodes": {func(op, _ string) bool { return op == "create" || op == "mkdir" }, unix.ENOSPC, fixNoSpace, false},
		"over its quota": {func(op, _ string) bool { return op == "write" }, unix.EDQUOT, fixNoSpace, false},
		"read-only": {func(op, _ string) bool {
			return op != "open" && op != "read" && op != "lstat" && op != "readdir"
		}, unix.EROFS, fixDisk, false},
		"not made durable": {func(op, _ string) bool { return op == "fsync" }, unix.EIO, fixDisk, false},
		"not removed":      {func(op, _ string) bool { return op == "remove" }, unix.EACCES, fixOwner, false},
		"alerts of root": {
			func(op, path string) bool { return op == "open" && filepath.Base(path) == local.AlertsFile }, unix.EACCES, fixOwner, false,
		},
		"alerts unreadable": {
			func(op, path string) bool { return op == "read" && filepath.Base(path) == local.AlertsFile }, unix.EIO, fixDisk, false,
		},
		"index unreadable": {
			func(op, path string) bool { return op == "read" && filepath.Base(path) == local.IndexFile }, unix.EIO, fixDisk, true,
		},
		"last run not there": {
			func(_, path string) bool { return strings.HasPrefix(filepath.Base(path), receiver.FleetCheckDoc) }, unix.EIO, fixDisk, false,
		},
		"dead": {func(string, string) bool { return true }, unix.EIO, fixDisk, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, d, spare, authority := newScene(t), &sickdisk.Disk{}, t.TempDir(), t.TempDir()
			must(t, os.WriteFile(filepath.Join(authority, local.RosterFile), []byte(enrolled("lab-03")), 0o600))
			at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
			run := func(minutes int) Result {
				t.Helper()
				r, err := s.run(at(minutes), func(o *Options) {
					o.Backend, o.Spare, o.Roster = on(d, s.dir), local.Folder(d, spare), local.Roster(d, authority)
				})
				if err != nil {
					t.Fatalf("minute %d: %v", minutes, err)
				}
				return r
			}
			s.write(local.IndexFile, row("lab-01", ago(40*time.Minute))+row("lab-02", ago(29*time.Minute))+row("lab-03", at(0)))
			run(0)
			if got := s.notified(); got != "lab-01 silent firing" {
				t.Fatalf("before: %s", got)
			}
			d.Fail(func(op, path string, _ int64) error {
				if strings.HasPrefix(path, s.dir) && c.fails(op, path) {
					return c.err
				}
				return nil
			})
			r := run(5)
			want := "@receiver data-broken firing, lab-02 silent firing"
			if c.blind {
				want = "@receiver data-broken firing"
			}
			if got := s.notified(); got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
			if got := symptoms(r.Open); !strings.Contains(got, "lab-01 silent firing") {
				t.Errorf("open: %s", got)
			}
			for _, a := range r.Open {
				if a.Symptom == DataBroken && (a.Fix != c.fix || !strings.Contains(a.Detail, c.err.Error())) {
					t.Errorf("fix %q, detail %q", a.Fix, a.Detail)
				}
			}
			run(10)
			if got := s.notified(); got != "" {
				t.Errorf("sent again: %s", got)
			}

			d.Fail(nil)
			run(15)
			want = "@receiver data-broken resolved"
			rows := "10 lab-01 silent firing, 15 @receiver data-broken firing, 15 lab-02 silent firing, 25 @receiver data-broken resolved"
			if c.blind {
				want = "lab-02 silent firing, @receiver data-broken resolved"
				rows = "10 lab-01 silent firing, 15 @receiver data-broken firing, 25 lab-02 silent firing, 25 @receiver data-broken resolved"
			}
			if got := s.notified(); got != want {
				t.Errorf("when it works again, sent %q, want %q", got, want)
			}
			if got := s.rows(); got != rows {
				t.Errorf("rows:  %s\nwant: %s", got, rows)
			}
			run(20)
			if got := s.notified(); got != "" {
				t.Errorf("sent after that: %s", got)
			}
			if last, err := ReadLast(onDisk(s.dir)); err != nil || !last.At.Equal(at(20)) || len(last.Unwritten) > 0 {
				t.Errorf("%+v, %v", last, err)
			}
		})
	}
}

// hanging is a disk that does not answer while its channel is open.
type hanging struct {
	disk.OS
	until chan struct{}
}

func (h hanging) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	<-h.until
	return h.OS.OpenFile(name, flag, perm)
}

// TestRun_TheDiskHangs: a disk that does not answer raises an alert, and alerts of the
// last run stay open.
func TestRun_TheDiskHangs(t *testing.T) {
	s, spare := newScene(t), t.TempDir()
	s.write(local.IndexFile, row("lab-01", ago(40*time.Minute)))
	spared := func(o *Options) { o.Spare, o.Patience = local.Folder(disk.OS{}, spare), time.Minute }
	if _, err := s.run(now, spared); err != nil {
		t.Fatal(err)
	}
	s.notified()
	synctest.Test(t, func(t *testing.T) {
		h := hanging{until: make(chan struct{})}
		spareOnly := hangsIn{h, s.dir}
		r, err := s.run(now.Add(5*time.Minute), func(o *Options) { spared(o); o.Backend = on(spareOnly, s.dir) })
		if err != nil || !r.Memory.Lost {
			t.Errorf("%v, %+v", err, r.Memory)
		}
		if got := symptoms(r.Open); got != "@receiver data-broken firing, lab-01 silent firing" {
			t.Errorf("open: %s", got)
		}
		if got := s.notified(); got != "@receiver data-broken firing" {
			t.Errorf("sent %s", got)
		}
		close(h.until)
		synctest.Wait()
	})
	if _, err := s.run(now.Add(10*time.Minute), spared); err != nil {
		t.Fatal(err)
	}
	if got := s.notified(); got != "@receiver data-broken resolved" {
		t.Errorf("when it answers: %s", got)
	}
}

// hangsIn is a disk that hangs below one folder.
type hangsIn struct {
	hanging
	dir string
}

func (h hangsIn) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	if strings.HasPrefix(name, h.dir) {
		return h.hanging.OpenFile(name, flag, perm)
	}
	return h.OS.OpenFile(name, flag, perm)
}

// TestRun_TheStoreVanished: in the empty mount point of the data's disk no host is judged
// and nothing is written.
func TestRun_TheStoreVanished(t *testing.T) {
	s, spare, known := newScene(t), t.TempDir(), t.TempDir()
	rosterDir := t.TempDir()
	rows := []check.Row{{ID: "rows.files", Status: check.Fail}, {ID: "disk.reserve", Status: check.Pass}}
	spared := func(o *Options) {
		o.Backend = local.Open(local.Options{FS: disk.OS{}, Dir: s.dir, Known: known})
		o.Spare, o.Roster, o.Receiver = local.Folder(disk.OS{}, spare), local.Roster(disk.OS{}, rosterDir), rows
	}
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	run := func(minutes int) Result {
		t.Helper()
		r, err := s.run(at(minutes), spared)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	// lab-01 is silent, lab-02 ships; both would have never reported to an empty store.
	must(t, os.WriteFile(filepath.Join(rosterDir, local.RosterFile), []byte(enrolled("lab-01")+enrolled("lab-02")), 0o600))
	s.write(store.IDFile, "one\n")
	must(t, os.WriteFile(filepath.Join(known, "ids"), []byte("one\n"), 0o600))
	s.write(local.IndexFile, row("lab-01", ago(40*time.Minute))+row("lab-02", at(4)))
	run(0)
	s.notified()
	must(t, os.Rename(s.dir, s.dir+".away"))
	must(t, os.Mkdir(s.dir, 0o755))
	// What checks say of the mount point means nothing.
	rows = []check.Row{{ID: "rows.files", Status: check.Pass}, {ID: "disk.reserve", Status: check.Fail}}
	r := run(5)
	if got := symptoms(r.Open); got != "@receiver data-broken firing, @receiver index-broken firing, lab-01 silent firing" ||
		r.Open[0].Fix != fixVanished {
		t.Errorf("open: %s, %q", got, r.Open[0].Fix)
	}
	if got := s.notified(); got != "@receiver data-broken firing" {
		t.Errorf("sent %s", got)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("left in the mount point: %v %v", left, err)
	}
	must(t, os.Remove(s.dir))
	must(t, os.Rename(s.dir+".away", s.dir))
	rows[1].Status = check.Pass
	run(10)
	if got := s.notified(); got != "@receiver data-broken resolved, @receiver index-broken resolved" {
		t.Errorf("when it is back: %s", got)
	}
}

// enrolled is a row of the roster.
func enrolled(host string) string {
	return `{"at":"2026-01-01T00:00:00Z","host":"` + host + `","event":"enrolled","serial":"40","expires":"2027-01-31T00:00:00Z"}` + "\n"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRun_AlertsRotated: alerts.jsonl is removed, or replaced by an older one, while
// alerts are firing. Their resolved rows are still written and sent.
func TestRun_AlertsRotated(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"moved away": func(path string) error { return os.Rename(path, path+".1") },
		"emptied":    func(path string) error { return os.Truncate(path, 0) },
		"an older one": func(path string) error {
			const row = `{"v":1,"at":"2026-02-01T00:00:00Z","host":"lab-09","symptom":"silent","state":"firing","since":"2026-02-01T00:00:00Z",` +
				`"hour":"2026-02-01T00:00:00Z"}` + "\n"
			return os.WriteFile(path, []byte(row), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
			shipped := row("lab-01", ago(40*time.Minute)) + row("lab-02", ago(40*time.Minute))
			s.write(local.IndexFile, shipped)
			s.must(at(0))
			s.notified()
			must(t, spoil(filepath.Join(s.dir, local.AlertsFile)))
			s.write(local.IndexFile, shipped+row("lab-01", at(3)))
			s.must(at(5))
			got := s.notified()
			if !strings.Contains(got, "lab-01 silent resolved") || strings.Contains(got, "lab-02 silent resolved") ||
				strings.Contains(got, "lab-09") {
				t.Errorf("sent %q", got)
			}
			s.write(local.IndexFile, shipped+row("lab-01", at(3))+row("lab-02", at(8)))
			s.must(at(10))
			if got := s.notified(); got != "lab-02 silent resolved" {
				t.Errorf("then sent %q", got)
			}
			if got := s.rows(); !strings.Contains(got, "15 lab-01 silent resolved") || !strings.Contains(got, "20 lab-02 silent resolved") {
				t.Errorf("rows: %s", got)
			}
		})
	}
}

// TestRun_AFolderOfAnotherUser: a person who is not the owner is refused; the service
// reports the wrong owner as an alert.
func TestRun_AFolderOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(40*time.Minute)))
	must(t, os.Chown(s.dir, 65534, 65534))
	if _, err := s.run(now, nil); err == nil || len(s.sent) > 0 {
		t.Errorf("a person: %v, sent %v", err, s.sent)
	}
	spare := t.TempDir()
	if _, err := s.run(now, func(o *Options) { o.Spare = local.Folder(disk.OS{}, spare) }); err != nil {
		t.Error(err)
	}
	if got := s.notified(); got != "@receiver data-broken firing, lab-01 silent firing" {
		t.Errorf("the service sent %q", got)
	}
	if _, err := os.Stat(filepath.Join(s.dir, local.AlertsFile)); err == nil {
		t.Error("it wrote there")
	}
}

// TestRun_ContactsOfHosts: a PUT that the receiver could not take speaks for its host.
func TestRun_ContactsOfHosts(t *testing.T) {
	for name, c := range map[string]struct {
		failed time.Duration
		want   string
	}{
		"it tries":         {5 * time.Minute, ""},
		"it has given up":  {31 * time.Minute, "lab-01 silent firing"},
		"it never tried":   {day * 400, "lab-01 silent firing"},
		"it tried earlier": {50 * time.Minute, "lab-01 silent firing"},
	} {
		s := newScene(t)
		s.json(
			receiver.ContactsDoc,
			contacts.Contacts{WrittenAt: now, Receiver: contacts.Receiver{Ready: true}, Hosts: map[ident.Host]*contacts.Contact{
				"lab-01": {LastAccepted: ago(40 * time.Minute), LastFailed: ago(c.failed)},
			}},
		)
		if got := symptoms(s.must(now).Open); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestRun_TheRosterIsEmpty: a roster that had hosts and has none is the receiver's
// fault, which no host is blamed for, until it has hosts again.
func TestRun_TheRosterIsEmpty(t *testing.T) {
	s := newScene(t)
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	s.write(local.IndexFile, row("lab-01", ago(25*time.Minute)))
	s.write(local.RosterFile, enrolled("lab-01"))
	s.must(at(0))
	for _, spoil := range []func() error{
		func() error { return os.WriteFile(filepath.Join(s.dir, local.RosterFile), nil, 0o600) },
		func() error { return os.Remove(filepath.Join(s.dir, local.RosterFile)) },
	} {
		must(t, spoil())
		if got := symptoms(s.must(at(10)).Open); got != "@receiver data-broken firing" {
			t.Errorf("open: %s", got)
		}
	}
	s.write(local.RosterFile, enrolled("lab-01"))
	if got := symptoms(s.must(at(15)).Open); got != "lab-01 silent firing" {
		t.Errorf("when it is back: %s", got)
	}
}

// TestRun_WhetherAHostEverShipped: that a host's folder cannot be looked at does not make
// it one that never reported.
func TestRun_WhetherAHostEverShipped(t *testing.T) {
	s, d := newScene(t), &sickdisk.Disk{}
	s.write(local.RosterFile, enrolled("lab-01"))
	s.write("episodes/lab-01/x", "")
	d.Fail(func(op, path string, _ int64) error {
		if op == "lstat" && strings.Contains(path, "/episodes/") {
			return unix.EIO
		}
		return nil
	})
	r, err := s.run(now, func(o *Options) { o.Backend = on(d, s.dir) })
	if got := symptoms(r.Open); err != nil || got != "@receiver data-broken firing" {
		t.Errorf("%v, open: %s", err, got)
	}
}

// TestJudge_WhatTheReceiverFailsIn: a host that is not renewed, or not updated, because
// the receiver fails, gets the receiver's fix.
func TestJudge_WhatTheReceiverFailsIn(t *testing.T) {
	ending := active(26 * day)
	ending.CertExpires = now.Add(day)
	h := &Host{Roster: ending, Accepted: ago(time.Minute), Version: "1", Offered: "2"}
	h.Contact = Contact{At: ago(time.Minute), Any: ago(time.Minute)}
	for _, status := range []check.Status{check.Pass, check.Fail} {
		f := facts(h)
		f.Seen = map[Key]time.Time{{Host: "lab-01", Symptom: StaleVersion}: ago(2 * day)}
		for _, id := range []string{"authority.reachable", "releases.signed"} {
			f.Receiver = append(f.Receiver, check.Row{ID: id, Status: status, Detail: "no answer", Fix: "on the receiver: mend " + id, Hard: true})
		}
		fixes := map[string]string{}
		found, _ := Judge(f)
		for _, x := range found {
			if x.Host == "lab-01" {
				fixes[x.Symptom] = x.Fix
			}
		}
		want := map[string]string{CertExpiring: "on the lab host: fix cert.expiry", StaleVersion: forHost(fixNoUpdates, "lab-01")}
		want[CertExpiring] = forHost(want[CertExpiring], "lab-01")
		if status == check.Fail {
			want = map[string]string{
				CertExpiring: "on the receiver: mend authority.reachable",
				StaleVersion: "on the receiver: mend releases.signed",
			}
		}
		if diff := cmp.Diff(want, fixes); diff != "" {
			t.Errorf("%s: %s", status, diff)
		}
	}
}

// TestJudge_AReceiverThatNeverOpened: no host has to have reported to a receiver that
// could not take anything yet.
func TestJudge_AReceiverThatNeverOpened(t *testing.T) {
	for _, c := range []struct {
		status  check.Status
		contact bool // the alert was open before
		want    int
	}{{check.Pass, false, 1}, {check.Fail, true, 1}, {check.Fail, false, 0}} {
		f := facts(&Host{Roster: active(2 * time.Hour)})
		f.Receiver = []check.Row{{ID: "receiver.ready", Status: c.status}}
		if c.contact {
			f.contacts.WrittenAt = ago(time.Minute)
		}
		found, _ := Judge(f)
		if len(found) != c.want {
			t.Errorf("ready: %s, contact: %v: found %v", c.status, c.contact, found)
		}
	}
}

// TestJudge_AReceiverThatOpenedLate: hosts have their time from when it took episodes.
func TestJudge_AReceiverThatOpenedLate(t *testing.T) {
	for began, want := range map[time.Duration]int{time.Minute: 0, 2 * time.Hour: 1} {
		f := facts(&Host{Roster: active(3 * time.Hour)})
		f.contacts.WrittenAt, f.contacts.BeganAt = ago(time.Minute), ago(began)
		if found, _ := Judge(f); len(found) != want {
			t.Errorf("open for %s: found %v", began, found)
		}
	}
}

// TestRun_SyslogCannotBeTold: the rows are written, and the delivery knows.
func TestRun_SyslogCannotBeTold(t *testing.T) {
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(40*time.Minute)))
	r, err := s.run(now, func(o *Options) { o.Syslog = func(Alert) error { return unix.ECONNREFUSED } })
	if err == nil || r.SyslogErr == nil || s.rows() != "10 lab-01 silent firing" {
		t.Errorf("%v, syslog error %v, rows %q", err, r.SyslogErr, s.rows())
	}
}

// TestRun_OneAlertOfOneFault: a fault that a check of the receiver reports raises only
// one alert.
func TestRun_OneAlertOfOneFault(t *testing.T) {
	for name, c := range map[string]struct {
		op, file, check, want string
		err                   error
	}{
		"full":               {"write", "", "disk.reserve", "@receiver disk-low firing", unix.ENOSPC},
		"full, none says so": {"write", "", "", "@receiver data-broken firing", unix.ENOSPC},
		"index of root":      {"open", local.IndexFile, "ledger.index", "@receiver index-broken firing", unix.EACCES},
		"contacts of root": {
			"open", receiver.ContactsDoc, "ledger.index", "@receiver data-broken firing, @receiver index-broken firing", unix.EACCES,
		},
	} {
		s, d := newScene(t), &sickdisk.Disk{}
		s.write(local.IndexFile, row("lab-01", ago(time.Minute)))
		d.Fail(func(op, path string, _ int64) error {
			if op == c.op && (c.file == "" || filepath.Base(path) == c.file) {
				return c.err
			}
			return nil
		})
		r, err := s.run(now, func(o *Options) {
			o.Backend = on(d, s.dir)
			if c.check != "" {
				o.Receiver = []check.Row{{ID: c.check, Status: check.Fail, Hard: true}}
			}
		})
		if got := symptoms(r.Open); err != nil || got != c.want {
			t.Errorf("%s: %v, open %q, want %q", name, err, got, c.want)
		}
	}
}
