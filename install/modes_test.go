package install_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cis490/install"
)

// TestModes_WhateverTheUmask: an install under a restrictive umask makes everything that
// services and people need readable, and install repairs a mode that was restricted later.
func TestModes_WhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	open := []string{"opt/cis490", "opt/cis490/versions", "opt/cis490/versions/v1.0.0", "opt/cis490/versions/v1.0.0/cis490", "etc/cis490"}
	for _, name := range open {
		for dir := name; dir != "."; dir = filepath.Dir(dir) {
			if fi, err := os.Stat(r.path(dir)); err != nil || fi.Mode()&0o005 != 0o005 {
				t.Errorf("%s: %v %v", dir, fi.Mode(), err)
			}
		}
	}
	for _, name := range append(open, "etc/systemd/system/cis490-shipper.service", "etc/cis490/lab-host.toml") {
		if err := os.Chmod(r.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
		out, n := r.drift(r.options(install.LabHost))
		if n == 0 || !strings.Contains(out, "/"+name) {
			t.Errorf("%s at 0700: %d differ:\n%s", name, n, out)
		}
		r.apply(r.options(install.LabHost))
		if out, n := r.drift(r.options(install.LabHost)); n != 0 {
			t.Errorf("after %s was mended:\n%s", name, out)
		}
	}
}
