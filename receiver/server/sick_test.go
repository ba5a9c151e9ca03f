package server_test

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/disk/sickdisk"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

// TestPut_EachStepFails: whichever step of a PUT fails, the answer is a 5xx, the receiver
// is not ready until it works again, the symptom is the receiver's, and the host that
// retries raises no alert. If only one host's episodes fail, another host that is silent
// is still detected.
func TestPut_EachStepFails(t *testing.T) {
	big := strings.Repeat("b", 1<<20)
	late := func(_ string, size int64) bool { return size > 900<<10 }
	in := func(part string) func(string, int64) bool {
		return func(path string, _ int64) bool { return strings.Contains(path, part) }
	}
	for name, c := range map[string]struct {
		op    string
		at    func(path string, size int64) bool
		err   error
		body  string // empty: small
		alone bool   // other hosts can ship
	}{
		"look for it":                     {op: "lstat", at: in("/episodes/lab-"), err: unix.EIO, alone: true}, // lab-b does not look
		"look whether it is archived":     {op: "open", at: in("/archived/lab-"), err: unix.EIO, alone: true},
		"measure the room":                {op: "statfs", at: in(""), err: unix.EIO},
		"make the staged file":            {op: "create", at: in("/staged/"), err: unix.EACCES},
		"make it without an inode":        {op: "create", at: in("/staged/"), err: unix.ENOSPC},
		"make it beyond a disk quota":     {op: "create", at: in("/staged/lab-a"), err: unix.EDQUOT, alone: true},
		"write it":                        {op: "write", at: in("/staged/"), err: unix.EIO},
		"write the end of a large one":    {op: "write", at: late, err: unix.EIO, body: big, alone: true},
		"write more than a file may have": {op: "write", at: late, err: unix.EFBIG, body: big, alone: true},
		"note its digest":                 {op: "setattr", at: in("/staged/"), err: unix.EIO},
		"make a large one durable":        {op: "fsync", at: late, err: unix.EIO, body: big, alone: true},
		"give it its name":                {op: "link", at: in("/episodes/"), err: unix.EIO},
		"in the host's folder":            {op: "link", at: in("/episodes/lab-a/"), err: unix.EACCES, alone: true},
		"make the host's folder":          {op: "mkdir", at: in("/episodes/"), err: unix.EMLINK},
		"make it durable":                 {op: "syncfs", at: in(""), err: unix.EIO},
		"write its row":                   {op: "write", at: in("/index.jsonl"), err: unix.EIO},
		"cut its row off": {
			op: "syncfs fsync", at: func(path string, _ int64) bool { return path == "" || strings.Contains(path, "/index.jsonl") }, err: unix.EIO,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			passed := atomic.Int64{}
			now := func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
			d := &sickdisk.Disk{}
			r := newHarness(t, func(r *harness) { r.fs, r.now = d, now })
			a, b := r.enrol("lab-a"), r.enrol("lab-b")
			body := "one"
			if c.body != "" {
				body = c.body
			}
			put := func() int { status, _, _ := a.do(a.request(ep2, body)); return status }
			ready := func() (int, string) { status, _, detail := a.do(r.get(wire.ReadyzPath)); return status, detail }
			if status, _, _ := b.do(b.request(ep1, "one")); status != 201 {
				t.Fatalf("before: %d", status)
			}
			if c.op != "mkdir" {
				if status, _, _ := a.do(a.request(ep1, "one")); status != 201 {
					t.Fatalf("before: %d", status)
				}
			}

			r.eventually("it is noted as ready", func() bool {
				book, err := contacts.Read(r.healthy().Docs)
				return err == nil && book.Receiver.Ready
			})
			hook := func(op, path string, size int64) error {
				if slices.Contains(strings.Fields(c.op), op) && c.at(path, size) {
					return c.err
				}
				return nil
			}
			d.Fail(hook)
			if status := put(); status < 500 {
				t.Fatalf("PUT: %d", status)
			}
			r.eventually("it is not ready", func() bool { status, _ := ready(); return status == 503 })
			_, detail := ready()
			if !strings.Contains(detail, c.err.Error()) {
				t.Errorf("readyz does not say why: %s", detail)
			}
			written := func() bool { // the contacts, at this time
				book, err := contacts.Read(r.healthy().Docs)
				return err == nil && !book.WrittenAt.Before(now().Add(-time.Minute)) && book.Receiver.Ready == c.alone
			}
			r.eventually("its state is noted", written)
			judge := func() (found []string) {
				status, detail := ready()
				row := check.Row{ID: "receiver.ready", Status: check.Pass, Detail: detail, Hard: true}
				if status != 200 {
					row.Status = check.Fail
				}
				res, err := fleet.Run(fleet.Options{
					Source: fleet.Source{Backend: r.healthy(), Roster: local.Roster(disk.OS{}, r.config.Authority.Dir)},
					Limits: fleet.Limits{SilentAfter: 30 * time.Minute, Lookback: 24 * time.Hour, NeverReported: time.Hour},
					Now:    now(), Known: func(string) (check.Check, bool) { return check.Check{}, false },
					Receiver: []check.Row{row}, Log: slog.New(slog.DiscardHandler),
				})
				must(t, err)
				for _, x := range res.Open {
					found = append(found, x.Host+" "+x.Symptom)
				}
				return found
			}
			judge()
			for range 4 { // for 40 minutes the host tries again
				passed.Add(int64(10 * time.Minute))
				if status := put(); status < 500 {
					t.Fatalf("PUT: %d", status)
				}
			}
			r.eventually("its state is noted", written)
			want := "@receiver doctor-failing"
			if c.alone {
				want += ", lab-b silent"
			}
			if got := strings.Join(judge(), ", "); got != want {
				t.Errorf("found %q, want %q", got, want)
			}

			d.Fail(nil)
			r.eventually("it takes the episode", func() bool { status := put(); return status == 200 || status == 201 })
			r.eventually("it is ready", func() bool { status, _ := ready(); return status == 200 })
			if files := r.files(); len(files) > 3 {
				t.Errorf("left behind: %v", files)
			}
		})
	}
}

// TestReady_WhatItNotesOfHosts: what serve notes of its hosts is what fleet-check
// judges by, so it is not ready while it cannot write that.
func TestReady_WhatItNotesOfHosts(t *testing.T) {
	for _, name := range []string{receiver.ContactsDoc, local.RejectionsFile, receiver.HealthReports} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &sickdisk.Disk{}
			r := newHarness(t, func(r *harness) { r.fs = d })
			a := r.enrol("lab-a")
			part := filepath.Join(r.config.DataDir, name)
			hook := func(op, path string, _ int64) error {
				if op != "lstat" && op != "open" && strings.HasPrefix(path, part) {
					return unix.EIO
				}
				return nil
			}
			d.Fail(hook)
			a.do(a.request(ep1, "one", func(q *http.Request) { q.Header.Set(wire.HeaderCommit, string(other)) }))
			report := func() {
				in := strings.NewReader(`{"schema":"cis490.doctor/1"}`)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.url("/v1/host-health/lab-a"), in)
				must(t, err)
				req.Header.Set("Authorization", "Bearer "+a.bearer)
				a.do(req)
			}
			report()
			ready := func() int { status, _, _ := a.do(r.get(wire.ReadyzPath)); return status }
			r.eventually("it is not ready", func() bool { return ready() == 503 })
			if status, _, _ := a.do(a.request(ep2, "two")); status != 201 {
				t.Errorf("an episode meanwhile: %d", status)
			}
			d.Fail(nil)
			report()
			r.eventually("it is ready", func() bool { return ready() == 200 })
		})
	}
}
