package server_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/wire"
)

// TestServe_RecoversByItself: /readyz reports obstacles of ledger and store, nothing is
// acknowledged meanwhile, and after their removal the next attempt succeeds without a
// restart.
func TestServe_RecoversByItself(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	data := func(name string) string { return filepath.Join(r.config.DataDir, name) }
	readyz := func() string {
		_, _, detail := a.do(r.get(wire.ReadyzPath))
		return detail
	}
	swap := func(name string) (back func()) { // a folder in place of what is there
		must(t, os.Rename(data(name), data(name)+".away"))
		must(t, os.Mkdir(data(name), 0o755))
		return func() {
			must(t, os.Remove(data(name)))
			must(t, os.Rename(data(name)+".away", data(name)))
		}
	}

	one, two := "one", "two"
	back := swap("index.jsonl")
	if status, kind, _ := a.do(a.request(ep1, one)); status != 500 || kind != wire.Broken {
		t.Errorf("without an index: %d %s", status, kind)
	}
	r.eventually("readyz reports the index", func() bool { return strings.Contains(readyz(), "index") })
	back()
	// The body is here: the retry needs none, and appends the row.
	if status, _, _ := a.do(a.request(ep1, one)); status != 200 {
		t.Errorf("the retry: %d", status)
	}
	if rows := r.rows(); len(rows) != 1 || !rows[0].Repaired {
		t.Errorf("rows %+v", rows)
	}

	must(t, os.Rename(data("staged"), data("staged.away")))
	must(t, os.WriteFile(data("staged"), nil, 0o600)) // no folder
	if status, kind, _ := a.do(a.request(ep2, two)); status != 500 || kind != wire.Broken {
		t.Errorf("without a place for uploads: %d %s", status, kind)
	}
	r.eventually("readyz reports the store", func() bool { return strings.Contains(readyz(), "store") })
	must(t, os.Remove(data("staged")))
	must(t, os.Rename(data("staged.away"), data("staged")))
	r.eventually("readyz is content", func() bool { return !strings.Contains(readyz(), "store") })
	must(t, os.Rename(data("episodes"), data("episodes.away")))
	if status, kind, _ := a.do(a.request(ep2, two)); status != 500 || kind != wire.Broken {
		t.Errorf("without a place for episodes: %d %s", status, kind)
	}
	r.eventually("readyz reports the folder of episodes", func() bool { return strings.Contains(readyz(), "episodes/probe") })
	must(t, os.Rename(data("episodes.away"), data("episodes")))
	if status, _, _ := a.do(a.request(ep2, two)); status != 201 {
		t.Errorf("then: %d", status)
	}
	r.eventually("it is ready", func() bool { return strings.Contains(readyz(), "ready") && !strings.Contains(readyz(), "store") })
	if n := len(r.files()); n != 2 || len(r.rows()) != 2 {
		t.Errorf("%d files, %d rows", n, len(r.rows()))
	}
}

// deniedDisk is a disk on which one file cannot be opened.
type deniedDisk struct {
	disk.OS
	name string
	err  atomic.Pointer[error]
}

func (d *deniedDisk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := d.err.Load(); err != nil && filepath.Base(name) == d.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: *err}
	}
	return d.OS.OpenFile(name, flag, perm)
}

// TestServe_StaysUpWithoutItsFiles: /readyz reports files that serve cannot use at start,
// with their owner and the fix; every request is answered 503 with a problem, and after
// the fix serve works without a restart.
func TestServe_StaysUpWithoutItsFiles(t *testing.T) {
	foreign := func(t *testing.T, path string) { // of another user: only root can make it
		if os.Geteuid() == 0 {
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Chown(path, 65534, 65534))
		}
	}
	nobody, mine := "no other user here", "mv"
	if os.Geteuid() == 0 {
		nobody, mine = "belongs to nobody, serve runs as root", "sudo chown root: "
	}
	for _, c := range []struct {
		name, file string
		err        error
		before     func(t *testing.T, path string)
		tells, fix string
	}{
		{"foreign index", "index.jsonl", unix.EACCES, foreign, nobody, mine},
		{"foreign rejections", "rejections.jsonl", unix.EACCES, foreign, nobody, mine},
		{"read-only disk", "index.jsonl", unix.EROFS, nil, "read-only file system", "mount it for writing"},
		{"full disk", "store_id.partial", unix.ENOSPC, nil, "no space left", "free space there"},
		{"folder in place", "index.jsonl", nil, func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o755)) }, "is a directory", "sudo mv "},
		{
			"file in place", "episodes", nil, func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) },
			"exists and is not a directory", "must be a folder",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.tells == "no other user here" {
				t.Skip("needs root")
			}
			d := &deniedDisk{name: c.file}
			var path string
			r := newHarness(t, func(r *harness) {
				path = filepath.Join(r.config.DataDir, c.file)
				must(t, os.Mkdir(r.config.DataDir, 0o755))
				if c.before != nil {
					c.before(t, path)
				}
				if c.err != nil {
					d.err.Store(&c.err)
				}
				r.fs = d
			})
			a := r.enrol("lab-a")
			res, err := a.client.Do(r.get(wire.ReadyzPath))
			must(t, err)
			p, err := wire.ReadLocalProblem(res)
			must(t, err)
			must(t, res.Body.Close())
			if p.Kind != wire.NotReady || !strings.Contains(p.Detail, c.tells) || !strings.Contains(p.Detail, c.file) ||
				!strings.Contains(p.Fix, c.fix) {
				t.Errorf("readyz: %d %s; fix %q; want %q and %q", p.Status, p.Detail, p.Fix, c.tells, c.fix)
			}
			if status, _, _ := a.do(r.get(wire.HealthzPath)); status != 200 {
				t.Errorf("healthz: %d", status)
			}
			if status, kind, _ := a.do(a.request(ep1, "one")); status != 503 || kind != wire.NotReady {
				t.Errorf("an upload: %d %s", status, kind)
			}
			r.eventually("the log reports it", func() bool { return strings.Contains(r.log.String(), c.tells) })

			d.err.Store(nil)
			if c.before != nil {
				must(t, os.Remove(path))
			}
			r.eventually("it is taken", func() bool {
				status, _, _ := a.do(a.request(ep1, "one"))
				return status == 201
			})
			if status, _, detail := a.do(r.get(wire.ReadyzPath)); status != 200 {
				t.Errorf("readyz: %d %s", status, detail)
			}
			if n := len(r.files()); n != 1 || len(r.rows()) != 1 {
				t.Errorf("%d files, %d rows", n, len(r.rows()))
			}
		})
	}
}

// TestServe_DrainsWhatIsInProgress: an upload in progress succeeds although serve is
// stopping.
func TestServe_DrainsWhatIsInProgress(t *testing.T) { onEach(t, drainsWhatIsInProgress) }

func drainsWhatIsInProgress(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a := r.enrol("lab-a")
	pr, pw := io.Pipe()
	req := a.request(ep1, large)
	req.Body = pr
	done := make(chan int, 1)
	go func() {
		status, _, _ := a.do(req)
		done <- status
	}()
	_, err := io.WriteString(pw, large[1:]) // returns once the receiver has asked for the body
	must(t, err)
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	r.eventually("serve is draining", func() bool { return strings.Contains(r.log.String(), "draining") })
	_, err = io.WriteString(pw, large[:1])
	must(t, err)
	must(t, pw.Close())
	if status := <-done; status != 201 {
		t.Errorf("answered %d", status)
	}
	<-stopped
	if rows := r.rows(); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
}
