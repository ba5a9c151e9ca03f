package install_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cis490/install"
	"cis490/internal/disk/rival"
)

// TestReceiver_RacedByALink: root installs while the owner of the data folder swaps a
// folder in it with a link to one of root's.
func TestReceiver_RacedByALink(t *testing.T) {
	for _, raced := range []string{"releases/blobs", "releases"} {
		r := newHarness(t)
		data, away := r.path("/var/lib/cis490"), filepath.Join(t.TempDir(), "away")
		r.apply(r.options(install.Receiver))
		if err := os.MkdirAll(filepath.Join(away, "blobs"), 0o700); err != nil {
			t.Fatal(err)
		}
		before := modes(t, away)
		link := filepath.Join(data, "link")
		if err := os.Symlink(away, link); err != nil {
			t.Fatal(err)
		}
		rival.Give(t, data)
		stop := rival.Exchange(t, filepath.Join(data, raced), link)
		for i := range 100 {
			r.binary = r.carried("build " + strings.Repeat("x", i%7))
			if p, err := install.New(r.options(install.Receiver)); err == nil {
				_ = p.Apply(t.Context()) // it may fail
			}
		}
		stop()
		if after := modes(t, away); after != before {
			t.Errorf("%s: root changed its own folder:\nbefore:\n%s\nafter:\n%s", raced, before, after)
		}
	}
}

// modes lists all names below a folder with their modes.
func modes(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + fi.Mode().String() + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReceiver_WhatIsNoFile: whatever the data folder's owner puts in the place of a file,
// install does not block on it and replaces it.
func TestReceiver_WhatIsNoFile(t *testing.T) {
	for what, plant := range map[string]func(path string) error{
		"pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"hole": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<30)) },
	} {
		for _, file := range []string{"blobs/*", "blobs/*.partial"} {
			r := newHarness(t)
			r.apply(r.options(install.Receiver))
			path := r.path("/var/lib/cis490/releases/" + file)
			if found, err := filepath.Glob(path); err == nil && len(found) == 1 {
				path = found[0]
			}
			_ = os.Remove(path)
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			r.apply(r.options(install.Receiver))
			if fi, err := os.Lstat(path); err == nil && (!fi.Mode().IsRegular() || fi.Size() > 1<<20) && !strings.HasSuffix(file, ".partial") {
				t.Errorf("%s in the place of %s stays: %v", what, file, fi.Mode())
			}
			if out, n := r.drift(r.options(install.Receiver)); n > 0 {
				t.Errorf("%s in the place of %s: %s", what, file, out)
			}
		}
	}
}

// TestReceiver_RefusesALinkedFolder: the error names a folder of the plan that its owner
// has replaced by a link, and nothing behind the link is changed.
func TestReceiver_RefusesALinkedFolder(t *testing.T) {
	for _, folder := range []string{"/var/lib/cis490/releases", "/var/lib/cis490/releases/blobs"} {
		r := newHarness(t)
		r.apply(r.options(install.Receiver))
		away := filepath.Join(t.TempDir(), "away")
		if err := os.Mkdir(away, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(r.path(folder)), os.Symlink(away, r.path(folder))); err != nil {
			t.Fatal(err)
		}
		rival.Give(t, r.path("/var/lib/cis490"))
		before := modes(t, away)
		p, err := install.New(r.options(install.Receiver))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), folder) {
			t.Errorf("%s: %v", folder, err)
		}
		if after := modes(t, away); after != before {
			t.Errorf("%s: root changed %s", folder, after)
		}
	}
}

// TestOperator_IsAPipe: if a pipe is in the place of the operator's token, install reports
// it and does not block.
func TestOperator_IsAPipe(t *testing.T) {
	r := newHarness(t)
	r.apply(r.options(install.Receiver))
	path := r.path("/etc/cis490/operator")
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	p, err := install.New(r.options(install.Receiver))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "/etc/cis490/operator") {
		t.Errorf("install says %v", err)
	}
}

// TestUninstall_CountsEpisodesOnly: pipes, links and what they point to are not
// episodes, and do not block an uninstall.
func TestUninstall_CountsEpisodesOnly(t *testing.T) {
	r := newHarness(t)
	r.apply(r.options(install.LabHost))
	data := r.path("/var/lib/cis490/data")
	away := filepath.Join(t.TempDir(), "away")
	err := errors.Join(
		os.MkdirAll(away, 0o755),
		os.WriteFile(filepath.Join(away, "done.marker"), nil, 0o600),
		os.Symlink(away, filepath.Join(data, "episodes", "01ARZ3NDEKTSV4RRFFQ69G5FA1")),
		syscall.Mkfifo(filepath.Join(data, "episodes", "01ARZ3NDEKTSV4RRFFQ69G5FA2"), 0o600),
		syscall.Mkfifo(filepath.Join(data, "outbox", "01ARZ3NDEKTSV4RRFFQ69G5FA3.tar.zst"), 0o600),
		os.Symlink("/etc/passwd", filepath.Join(data, "outbox", "01ARZ3NDEKTSV4RRFFQ69G5FA4.tar.zst")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := install.Uninstall(t.Context(), install.UninstallOptions{Role: install.LabHost, Root: r.root, Manager: r.manager}); err != nil {
		t.Error(err)
	}
}
