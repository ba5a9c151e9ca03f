package server_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/disk/sickdisk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

// ping sends a host's ping.
func (h *host) ping(leaving bool) (int, wire.Kind) {
	h.r.t.Helper()
	body := fmt.Sprintf(`{"boot_id":"b","clock":%q,"leaving":%t}`, h.r.now().UTC().Format(time.RFC3339), leaving)
	req, err := http.NewRequestWithContext(h.r.t.Context(), http.MethodPost, h.r.url(wire.PingPath), strings.NewReader(body))
	must(h.r.t, err)
	req.Header.Set("Authorization", "Bearer "+h.bearer)
	status, kind, _ := h.do(req)
	return status, kind
}

// judged returns the findings of fleet-check now, as "host symptom".
func (r *harness) judged(by *host) string {
	r.t.Helper()
	status, _, detail := by.do(r.get(wire.ReadyzPath))
	row := check.Row{ID: "receiver.ready", Status: check.Pass, Detail: detail, Hard: true}
	if status != http.StatusOK {
		row.Status = check.Fail
	}
	res, err := fleet.Run(fleet.Options{
		Source: fleet.Source{Backend: r.healthy(), Roster: local.Roster(disk.OS{}, r.config.Authority.Dir)},
		Limits: fleet.Limits{SilentAfter: 30 * time.Minute, Lookback: 24 * time.Hour, NeverReported: time.Hour},
		Now:    r.now(), Known: func(string) (check.Check, bool) { return check.Check{}, false },
		Receiver: []check.Row{row}, Log: slog.New(slog.DiscardHandler),
	})
	must(r.t, err)
	var found []string
	for _, x := range res.Open {
		found = append(found, x.Host+" "+x.Symptom)
	}
	return strings.Join(found, ", ")
}

// TestPing_EachStepFails: whichever step of a ping fails, the host is asked to retry or
// gets an answer, the receiver is not ready until it works again, the symptom is the
// receiver's, and no host that retries raises an alert, neither meanwhile nor afterwards.
func TestPing_EachStepFails(t *testing.T) {
	on := func(op string, err error, parts ...string) func(*harness, *sickdisk.Disk) {
		return func(_ *harness, d *sickdisk.Disk) {
			d.Fail(func(o, path string, _ int64) error {
				for _, part := range parts {
					if o == op && strings.Contains(path, part) {
						return err
					}
				}
				return nil
			})
		}
	}
	folder := func(name string) func(*harness, *sickdisk.Disk) { // in place of the file
		return func(r *harness, _ *sickdisk.Disk) {
			path := filepath.Join(r.dir, name)
			must(r.t, os.Rename(path, path+".away"))
			must(r.t, os.Mkdir(path, 0o755))
		}
	}
	for name, c := range map[string]struct {
		fail    func(*harness, *sickdisk.Disk)
		away    string // what fail replaced
		leaving bool
		status  int
		ready   string // what /readyz reports
		also    string // found beside that
	}{
		"read the roster": {
			fail: folder("authority/roster.jsonl"), away: "authority/roster.jsonl", status: 503, ready: "roster",
			also: "@receiver data-broken, ",
		},
		"note it":                          {fail: on("create", unix.EIO, receiver.ContactsDoc), status: 200, ready: "contacts"},
		"note it on a full disk":           {fail: on("write", unix.ENOSPC, receiver.ContactsDoc), status: 200, ready: "contacts"},
		"note it for good":                 {fail: on("rename", unix.EIO, receiver.ContactsDoc), status: 200, ready: "contacts"},
		"note that it leaves":              {fail: on("create", unix.EIO, receiver.ContactsDoc), leaving: true, status: 500, ready: "contacts"},
		"note for good that it leaves":     {fail: on("fsync", unix.EIO, receiver.ContactsDoc), leaving: true, status: 500, ready: "contacts"},
		"note that it leaves, on no space": {fail: on("write", unix.ENOSPC, receiver.ContactsDoc), leaving: true, status: 500, ready: "contacts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			passed, sent := atomic.Int64{}, 1
			d := &sickdisk.Disk{}
			r := newHarness(t, func(r *harness) {
				r.fs, r.now = d, func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
			})
			a, b := r.enrol("lab-a"), r.enrol("lab-b")
			for _, h := range []*host{a, b} {
				if status, _, _ := h.do(h.request(ep1, "of "+string(h.name))); status != 201 {
					t.Fatalf("before: %d", status)
				}
			}
			r.eventually("it is noted as ready", func() bool {
				book, err := contacts.Read(r.healthy().Docs)
				return err == nil && book.Receiver.Ready
			})
			c.fail(r, d)
			ready := func() (int, string) { status, _, detail := a.do(r.get(wire.ReadyzPath)); return status, detail }
			ship := func() {
				sent++
				for _, h := range []*host{a, b} {
					id := ident.EpisodeID(fmt.Sprintf("%s%d", ep1[:25], sent))
					h.do(h.request(id, fmt.Sprint(sent, h.name)))
				}
			}
			for range 5 { // for 40 minutes both try
				if status, kind := a.ping(c.leaving); status != c.status {
					t.Errorf("ping: %d %s, want %d", status, kind, c.status)
				}
				b.ping(false)
				ship()
				r.eventually("it is not ready", func() bool { status, _ := ready(); return status == 503 })
				r.judged(a)
				passed.Add(int64(10 * time.Minute))
			}
			if _, detail := ready(); !strings.Contains(detail, c.ready) {
				t.Errorf("readyz does not say why: %s", detail)
			}
			if got, want := r.judged(a), c.also+"@receiver doctor-failing"; got != want {
				t.Errorf("meanwhile found %q, want %q", got, want)
			}
			d.Fail(nil)
			if c.away != "" {
				path := filepath.Join(r.dir, c.away)
				must(t, os.Remove(path))
				must(t, os.Rename(path+".away", path))
			}
			for _, h := range []*host{a, b} {
				r.eventually("a ping is answered", func() bool { status, _ := h.ping(c.leaving && h == a); return status == 200 })
			}
			r.eventually("it is ready", func() bool { status, _ := ready(); return status == 200 })
			ship()
			r.eventually("it is noted", func() bool {
				book, err := contacts.Read(r.healthy().Docs)
				return err == nil && book.Receiver.Ready && !book.WrittenAt.Before(r.now().Add(-time.Minute))
			})
			if got := r.judged(a); got != "" {
				t.Errorf("afterwards found %q", got)
			}
		})
	}
}
