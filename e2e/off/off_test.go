//go:build off

package off

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

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

// reason is what the scenario itself said until it failed.
func reason(out string) string {
	said := regexp.MustCompile(`(?m)^    \w+_test\.go:\d+: .*\n`).FindAllString(out, -1)
	return strings.Join(said, "")
}
