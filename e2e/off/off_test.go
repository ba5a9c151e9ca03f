//go:build off

// Package off shows that the scenarios of the incidents can fail: each is told
// once more with a binary in which the part that heals was switched off, and must
// fail then. The source tree stays as it is; the builds read an overlay of it.
// `make incidents-off` runs all, INCIDENT=04 one.
package off

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// without is a change of one source file that switches a part off.
type without struct{ part, file, old, with string }

func TestOff(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for scenario, w := range parts {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			overlay := w.overlay(t, root)
			run := func(name string, args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), name, args...)
				cmd.Dir = root
				cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay, "CIS490_LAB_LOGS="+t.TempDir())
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := run("go", "build", "-o", os.DevNull, "."); err != nil {
				t.Fatalf("without %s it does not build: %v\n%s", w.part, err, out)
			}
			out, err := run("go", "test", "-tags", "e2e", "-count=1", "-timeout", "25m", "-v", "-run", "^TestIncident"+scenario+"$", "./e2e")
			if err == nil || !strings.Contains(out, "\n--- FAIL: TestIncident") {
				t.Fatalf("without %s the scenario does not fail: %v\n%s", w.part, err, out)
			}
			t.Logf("without %s:\n%s", w.part, reason(out))
		})
	}
}

// overlay writes the changed file, and what go build shall read in place of what.
func (w without) overlay(t *testing.T, root string) string {
	t.Helper()
	path := filepath.Join(root, w.file)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), w.old) != 1 {
		t.Fatalf("%s: want once: %q", w.file, w.old)
	}
	changed := filepath.Join(t.TempDir(), filepath.Base(w.file))
	if err := os.WriteFile(changed, []byte(strings.Replace(string(b), w.old, w.with, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := changed + ".json"
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// reason is what the scenario itself said until it failed.
func reason(out string) string {
	said := regexp.MustCompile(`(?m)^    \w+_test\.go:\d+: .*\n`).FindAllString(out, -1)
	return strings.Join(said, "")
}
