//go:build e2e

package solo

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDist_Reproducible builds the same commit in two folders, with different settings and
// caches. Both releases are identical, and Debian's minisign verifies them. A modified tree
// is rejected.
func TestDist_Reproducible(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	dist := func(tree string, env ...string) ([]byte, error) {
		cmd := exec.Command("make", "dist", "RELEASE=release", "PLATFORMS=linux-arm64")
		cmd.Dir, cmd.Env = tree, append(append(os.Environ(), "CIS490_RELEASE_KEYS="+keys), env...)
		return cmd.CombinedOutput()
	}
	clone := func(name string) string {
		tree := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(tree), 0o755))
		if out, err := exec.Command("git", "clone", "-q", "../..", tree).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return tree
	}
	cache := filepath.Join(dir, "cache")
	settings := filepath.Join(dir, "settings")
	must(t, os.WriteFile(settings, []byte("GOFLAGS=-tags=solo\nGOARM64=v8.2\nGOPROXY="+goEnv(t, "GOPROXY")+"\n"), 0o600))
	one, two := clone("one"), clone("another/folder that is named otherwise")
	for tree, env := range map[string][]string{
		one: nil,
		two: {"GOCACHE=" + cache, "GOENV=" + settings, "TZ=Asia/Tokyo", "LC_ALL=C", "TMPDIR=" + dir, "CGO_ENABLED=1"},
	} {
		if out, err := dist(tree, env...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	entries, err := os.ReadDir(filepath.Join(one, "release"))
	must(t, err)
	for _, e := range entries {
		a, err := os.ReadFile(filepath.Join(one, "release", e.Name()))
		must(t, err)
		if b, err := os.ReadFile(filepath.Join(two, "release", e.Name())); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %d and %d bytes, %v", e.Name(), len(a), len(b), err)
		}
	}
	if len(entries) != 4 {
		t.Errorf("a release of %v", entries)
	}
	if tool, err := exec.LookPath("minisign"); err == nil {
		cmd := exec.Command(tool, "-V", "-p", "release.pub", "-m", "manifest.json")
		cmd.Dir = filepath.Join(two, "release")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Trusted comment: cis490 ") {
			t.Errorf("minisign -V: %v: %s", err, out)
		}
	}

	must(t, os.RemoveAll(filepath.Join(one, "release")))
	must(t, os.WriteFile(filepath.Join(one, "README.md"), []byte("changed\n"), 0o644))
	out, err := dist(one)
	if err == nil || !strings.Contains(string(out), " M README.md") || !strings.Contains(string(out), "commit these or stash them first") {
		t.Errorf("a changed tree: %v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(one, "release")); err == nil {
		t.Error("the failed build left a release")
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}
