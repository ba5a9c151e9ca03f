//go:build off

package off

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestOff runs the scenario of each part without the part. It must fail.
func TestOff(t *testing.T) {
	root := projectRoot(t)
	marks := readMarks(t, root)
	for scenario, p := range parts() {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			overlay := p.overlay(t, root, marks, scenario)
			run := func(name string, args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), name, args...)
				cmd.Dir = root
				cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay, "CIS490_LAB_LOGS="+t.TempDir())
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := run("go", "build", "-o", os.DevNull, "."); err != nil {
				t.Fatalf("without %s the program does not build: %v\n%s", p.what, err, out)
			}
			out, err := run("go", "test", "-tags", "e2e", "-count=1", "-timeout", "25m", "-v", "-run", "^TestIncident"+scenario+"$", "./e2e")
			if err == nil || !strings.Contains(out, "\n--- FAIL: TestIncident") {
				t.Fatalf("without %s the scenario does not fail: %v\n%s", p.what, err, out)
			}
			t.Logf("without %s:\n%s", p.what, reason(out))
		})
	}
}

// reason returns the log lines of the scenario.
func reason(out string) string {
	lines := regexp.MustCompile(`(?m)^    \w+_test\.go:\d+: .*\n`).FindAllString(out, -1)
	return strings.Join(lines, "")
}
