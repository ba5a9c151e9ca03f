package commands

import (
	"os"
	"path/filepath"
	"testing"
)

// TestInVersions: a version is one of ours wherever symlinks lead the folder of the
// program; else nothing would be updated there, and another experiment be recorded.
func TestInVersions(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "big/opt/cis490/versions/v1"), 0o755), os.Symlink("big/opt", filepath.Join(dir, "opt")),
		os.Symlink("big/opt/cis490", filepath.Join(dir, "direct")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "big/opt/cis490/versions/v1/cis490")
	for _, at := range []string{"big/opt/cis490", "opt/cis490", "direct"} {
		if !inVersions(filepath.Join(dir, at), program) {
			t.Errorf("%s: not one of ours", at)
		}
	}
	for _, other := range []string{filepath.Join(dir, "cis490"), filepath.Join(dir, "big/opt/cis490/cis490"), "/versions/v1/cis490"} {
		if inVersions(filepath.Join(dir, "opt/cis490"), other) {
			t.Errorf("%s is one of ours", other)
		}
	}
}
