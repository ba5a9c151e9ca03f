package commands_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/receiver/objects/s3test"
)

// run runs the program and returns what it printed.
func (r *site) run(args ...string) (string, error) {
	out, err := exec.Command("cis490", args...).CombinedOutput()
	return string(out), err
}

func (r *site) mustRun(args ...string) string {
	r.tb.Helper()
	out, err := r.run(args...)
	if err != nil {
		r.tb.Fatalf("%v: %v\n%s\nserve:\n%s", args, err, out, r.read("serve.log"))
	}
	return out
}

// ship records and ships n episodes.
func (r *site) ship(n int) {
	r.tb.Helper()
	r.record(n, 1<<20)
	r.mustRun("ship", "--once", "--config", r.path("lab.toml"))
}

// storeAt writes a config that keeps tarballs in a bucket.
func (r *site) storeAt(name, addr, prefix string) {
	r.write("s3-keys", fmt.Appendf(nil, "access_key_id = %s\nsecret_access_key = %s\n", s3test.Keys().ID, s3test.Keys().Secret))
	r.write(name, fmt.Appendf(nil, "%s[store]\nbackend = \"s3\"\n[store.s3]\nendpoint = \"http://%s\"\nbucket = %q\nprefix = %q\n"+
		"credentials_file = %q\ndelete_credentials_file = %[5]q\n", r.read("rx.toml"), addr, s3test.Bucket, prefix, r.path("s3-keys")))
}

// all checks that the receiver has n episodes, and that host and rows agree with it.
func (r *site) all(n int) {
	r.tb.Helper()
	out := r.mustRun("store", "verify", "--deep", "--json", "--config", r.path("rx.toml"))
	if want := fmt.Sprintf("\"rows\": %d,", n); !strings.Contains(out, want) {
		r.tb.Errorf("verify says %s, want %s", out, want)
	}
	if out := r.mustRun("reconcile", "--config", r.path("lab.toml")); !strings.Contains(out, fmt.Sprintf("all %d shipped", n)) {
		r.tb.Errorf("reconcile says %s", out)
	}
}

// TestStore_ThereAndBack moves a receiver to an object store while it takes episodes, to
// another bucket, and back to its disk, with nothing to do on the host.
func TestStore_ThereAndBack(t *testing.T) {
	t.Parallel()
	server := s3test.New(t)
	r := newSite(t)
	rx := r.path("rx.toml")
	local := r.read("rx.toml")
	r.ship(3)
	move := func(name string, n int) {
		t.Helper()
		r.mustRun("store", "copy", "--to", r.path(name), "--config", rx)
		r.ship(1) // serve goes on
		final := []string{"store", "copy", "--to", r.path(name), "--config", rx, "--final"}
		if out, err := r.run(final...); err == nil || !strings.Contains(out, "stop cis490-receiver") {
			t.Errorf("--final beside serve: %v: %s", err, out)
		}
		r.stopServing()
		r.mustRun(final...)
		if out, err := r.run(final...); err == nil || !strings.Contains(out, "already") {
			t.Errorf("again from the old place: %v: %s", err, out)
		}
		old := r.read("rx.toml")
		r.serve() // with the old config
		r.until("it refuses", func() bool { return strings.Contains(r.read("serve.log"), "the tarballs are in") })
		r.stopServing()
		r.must(os.Rename(r.path(name), rx))
		r.write("old.toml", []byte(old))
		r.serve()
		r.ready()
		r.all(n)
		r.ship(1)
		r.all(n + 1)
	}
	r.storeAt("one.toml", server.Addr, "")
	move("one.toml", 4)
	if n := r.stored(); n != 4 {
		t.Errorf("the old place has %d tarballs, want 4", n)
	}
	r.write("base", []byte(local))
	current := r.read("rx.toml")
	r.write("rx.toml", []byte(local)) // for storeAt
	r.storeAt("two.toml", server.Addr, "two/")
	r.write("rx.toml", []byte(current))
	move("two.toml", 6)
	r.write("back.toml", []byte(local))
	move("back.toml", 8)
	if n := r.stored(); n != 9 {
		t.Errorf("the disk has %d tarballs, want 9", n)
	}
}

// TestStore_NewReceiver: one that begins with an object store, and commands on it.
func TestStore_NewReceiver(t *testing.T) {
	t.Parallel()
	server := s3test.New(t)
	r := newSite(t)
	rx := r.path("rx.toml")
	r.storeAt("s3.toml", server.Addr, "")
	r.stopServing()
	r.must(errors.Join(os.RemoveAll(r.path("rx")), os.Mkdir(r.path("rx"), 0o750), os.Rename(r.path("s3.toml"), rx)))
	r.serve()
	r.until("it says what is missing", func() bool { return strings.Contains(r.read("serve.log"), "sudo cis490 store init") })
	r.mustRun("store", "init", "--config", rx)
	r.ready()
	r.ship(3)
	r.all(3)
	if n := r.stored(); n != 0 {
		t.Errorf("%d tarballs are on the disk", n)
	}
	objects, err := filepath.Glob(filepath.Join(server.Dir, s3test.Bucket, "episodes", siteHost, "*"))
	r.must(err)
	whole, err := os.ReadFile(objects[1])
	r.must(errors.Join(err, os.WriteFile(objects[1], bytes.Repeat([]byte("x"), len(whole)), 0o600)))
	out, err := r.run("store", "verify", "--deep", "--config", rx)
	if err == nil || !strings.Contains(out, "0 without their tarball, 1 with another content") {
		t.Errorf("verify of a damaged object: %v: %s", err, out)
	}
	r.must(os.WriteFile(objects[1], whole, 0o600))
	if out := r.mustRun("store", "scrub", "--config", rx); !strings.Contains(out, "3 rows and 3 tarballs compared") {
		t.Errorf("scrub: %s", out)
	}
	// These episodes have one telemetry file only, which verify says after it has opened it.
	const first = "01J00000000000000000000001"
	if out, _ := r.run("episode", "verify", "--config", rx, first); !strings.Contains(out, siteHost+"/"+first+" in cis490: ") {
		t.Errorf("verify: %s", out)
	}
	r.must(os.Mkdir(r.path("archived"), 0o750))
	r.ageObjects(server) // archive leaves what is younger than a minute
	out = r.mustRun("archive", "--before", "2100-01-01", "--to", r.path("archived"), "--config", rx)
	if !strings.Contains(out, "moved 3 episodes") {
		t.Errorf("archive: %s", out)
	}
	if n := r.ageObjects(server); n != 0 {
		t.Errorf("%d objects are left after archive", n)
	}
	r.ship(1)
	if out, err := r.run("doctor", "--config", rx, "--only", "store.bucket,store.digest,store.same,store.clock"); err != nil {
		t.Errorf("doctor: %v: %s", err, out)
	}
	if out, err := r.run("doctor", "--deep", "--config", rx, "--only", "rows.files"); err != nil || !strings.Contains(out, "ok") {
		t.Errorf("doctor --deep: %v: %s", err, out)
	}
	r.stopServing()
	r.write("s3-keys", []byte("access_key_id = x\nsecret_access_key = wrong-key-for-test\n"))
	out, err = r.run("doctor", "--config", rx, "--only", "store.bucket")
	if err == nil || strings.Contains(out, "wrong-key") {
		t.Errorf("doctor with wrong keys: %v: %s", err, out)
	}
}

// TestStore_Restored: a receiver whose machine is lost gets its backup and its bucket back:
// scrub adds the rows of the objects, and no host sends anything again.
func TestStore_Restored(t *testing.T) {
	t.Parallel()
	server := s3test.New(t)
	r := newStoreSite(t, server)
	rx := r.path("rx.toml")
	r.write("ca/ca.key", []byte("key")) // what a backup is made for
	r.ship(3)
	r.mustRun("backup", "--config", rx, "--to", r.path("safe.tar.gz"))
	r.stopServing()
	r.must(errors.Join(os.RemoveAll(r.path("rx")), os.RemoveAll(r.path("ca"))))
	out := r.mustRun("restore", "--config", rx, "--from", r.path("safe.tar.gz"))
	if !strings.Contains(out, "cis490 store init --take-over") {
		t.Errorf("restore does not say what a bucket needs: %s", out)
	}
	r.serve()
	r.until("it refuses the bucket", func() bool { return strings.Contains(r.read("serve.log"), "the bucket belongs to another store") })
	r.stopServing()
	r.mustRun("store", "init", "--take-over", "--config", rx)
	r.serve()
	r.ready()
	r.ageObjects(server) // scrub leaves what is younger than an hour
	if out := r.mustRun("store", "scrub", "--config", rx); !strings.Contains(out, "3 rows added") {
		t.Errorf("scrub: %s", out)
	}
	r.all(3)
	r.ship(1)
	r.all(4)
}

// ageObjects makes all objects two hours older, and returns how many there are.
func (r *site) ageObjects(server *s3test.Server) int {
	objects, err := filepath.Glob(filepath.Join(server.Dir, s3test.Bucket, "episodes", siteHost, "*"))
	r.must(err)
	for _, o := range objects {
		r.must(os.Chtimes(o, time.Time{}, time.Now().Add(-2*time.Hour)))
	}
	return len(objects)
}
