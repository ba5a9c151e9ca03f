package install_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/install"
	"cis490/internal/fault"
)

// link makes a symlink to a folder on a larger disk.
func (r *harness) link(name string) {
	r.t.Helper()
	for _, dir := range []string{r.path("big/disk"), filepath.Dir(r.path(name))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := os.Symlink(r.path("big/disk"), r.path(name)); err != nil {
		r.t.Fatal(err)
	}
}

// TestSymlinks_AreResolvedOnce: a new config names the target of a symlink; an existing
// config is refused with the value to set, and never with a fix that hides the data.
func TestSymlinks_AreResolvedOnce(t *testing.T) {
	for _, c := range []struct {
		role            install.Role
		link, key, want string
		config          string
	}{
		{install.Receiver, "var/lib/cis490", "data_dir", "\ndata_dir = \"/big/disk\"\n", "public_url = \"https://collector.lab:8443\"\n"},
		{
			install.Receiver, "var/lib/cis490-authority", "authority.dir", "\ndir = \"/big/disk\"\n",
			"public_url = \"https://collector.lab:8443\"\n",
		},
		{install.LabHost, "var/lib/cis490/data", "data_dir", "\ndata_dir = \"/big/disk\"\n", labConfig},
		{install.LabHost, "etc/cis490/certs", "certs_dir", "\ncerts_dir = \"/big/disk\"\n", labConfig},
	} {
		t.Run(c.key+" of a new "+string(c.role), func(t *testing.T) {
			r := newHarness(t)
			r.enrolls()
			r.link(c.link)
			out, _ := r.apply(r.options(c.role))
			path := "etc/cis490/" + string(c.role) + ".toml"
			if got := r.read(path); !strings.Contains(got, c.want) || !strings.Contains(out, "is a symlink: "+strings.TrimSpace(c.want)) {
				t.Errorf("%s\n%s", out, got)
			}
			if out, n := r.drift(r.options(c.role)); n != 0 {
				t.Errorf("drift:\n%s", out)
			}
		})
		t.Run(c.key+" of a "+string(c.role)+" with a config", func(t *testing.T) {
			r := newHarness(t)
			r.write("etc/cis490/"+string(c.role)+".toml", c.config)
			r.link(c.link)
			_, err := install.New(r.options(c.role))
			if err == nil || !strings.Contains(err.Error(), "is a symlink: set "+strings.TrimSpace(c.want)) ||
				!strings.HasPrefix(fault.FixOf(err), "sudoedit ") {
				t.Errorf("%v: %s", err, fault.FixOf(err))
			}
		})
	}
}

// TestSymlinks_ProgramFolder: a symlink in the place of /opt/cis490 stays, and the program
// is in its target. uninstall removes only its own files there.
func TestSymlinks_ProgramFolder(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.link("opt/cis490")
	r.write("big/disk/of-the-site", "kept")
	r.apply(r.options(install.LabHost))
	if out, n := r.drift(r.options(install.LabHost)); n != 0 {
		t.Errorf("drift:\n%s", out)
	}
	if fi, err := os.Lstat(r.path("opt/cis490")); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v %v", fi, err)
	}
	if _, err := os.Stat(r.path("big/disk/versions/v1.0.0/cis490")); err != nil {
		t.Error(err)
	}
	if err := r.uninstall(install.LabHost, true); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(r.path("big/disk"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "of-the-site" {
		t.Errorf("%v %v", entries, err)
	}
	if _, err := os.Lstat(r.path("opt/cis490")); !os.IsNotExist(err) {
		t.Error(err)
	}
}
