package checks_test

import (
	"os"
	"path/filepath"
	"testing"

	"cis490/agent/checks"
	"cis490/internal/check"
)

// TestInstalled: the running binary is the installed one, even if install ran from a copy
// elsewhere.
func TestInstalled(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := write("versions/1/cis490", "one")
	two := write("versions/2/cis490", "two")
	current := filepath.Join(dir, "current")
	if err := os.Symlink("versions/1", current); err != nil {
		t.Fatal(err)
	}
	for self, want := range map[string]check.Status{
		one: check.Pass, two: check.Warn, write("carried/cis490", "one"): check.Pass, write("other/cis490", "new"): check.Warn,
	} {
		if r := checks.Installed(self, current); r.Status != want {
			t.Errorf("%s: %+v, want %s", self, r, want)
		}
	}
	if r := checks.Installed(one, filepath.Join(dir, "absent")); r.Status != check.Skip {
		t.Errorf("not installed: %+v", r)
	}
}
