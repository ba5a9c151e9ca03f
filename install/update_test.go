package install_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/install"
)

// TestApply_LockHandedOver: the install that an update starts does not wait for the lock
// that the update holds; a descriptor that only claims to be that lock is refused.
func TestApply_LockHandedOver(t *testing.T) {
	r := newHarness(t)
	o := r.options(install.LabHost)
	r.apply(o)
	held, err := install.Hold(t.Context(), osFS, r.root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	o.Held, o.Update = held, true
	r.apply(o)

	other, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	o.Held = other
	p, err := install.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "is not") {
		t.Errorf("another file is taken for the lock: %v", err)
	}
	// The same file, but opened a second time: another process holds the lock.
	again, err := os.Open(r.path("opt/cis490/state/lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	o.Held = again
	if p, err = install.New(o); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "inherit the lock") {
		t.Errorf("a lock that another holds: %v", err)
	}
}

// TestApply_UpdateTakesUnknownKeys: a config of a newer version does not block
// an update or a rollback; install reports the unknown key to a person.
func TestApply_UpdateTakesUnknownKeys(t *testing.T) {
	r := newHarness(t)
	o := r.options(install.LabHost)
	r.apply(o)
	r.write("etc/cis490/lab-host.toml", "new_key = 1\n"+r.read("etc/cis490/lab-host.toml"))
	o.Token = ""
	if _, err := install.New(o); err == nil {
		t.Error("the unknown key is not reported to a person")
	}
	o.Update = true
	if out, _ := r.apply(o); !strings.Contains(out, "new_key") {
		t.Errorf("the unknown key is not noted:\n%s", out)
	}
}

// TestApply_InstalledStaysInItsFolder: two builds with the same version have folders of
// their own; the install of one on trial does not change good.
func TestApply_InstalledStaysInItsFolder(t *testing.T) {
	r := newHarness(t)
	o := r.options(install.LabHost)
	r.apply(o)
	r.write("opt/cis490/versions/v1.0.0+abc/cis490", "second build")
	o.Binary, o.Token = r.path("opt/cis490/versions/v1.0.0+abc/cis490"), ""
	r.apply(o)
	for link, want := range map[string]string{"current": "versions/v1.0.0+abc", "good": "versions/v1.0.0"} {
		if to, err := os.Readlink(r.path("opt/cis490/" + link)); err != nil || to != want {
			t.Errorf("%s leads to %s, want %s (%v)", link, to, want, err)
		}
	}
	if r.read("opt/cis490/versions/v1.0.0/cis490") != "first build" {
		t.Error("the folder of the other build was written")
	}
}
