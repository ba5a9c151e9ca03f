package commands_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"cis490/receiver/fleet"
)

// TestPrometheusRules_NameEverySymptom: and promtool, if installed, accepts them.
func TestPrometheusRules_NameEverySymptom(t *testing.T) {
	const path = "../docs/prometheus-rules.yml"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range fleet.Symptoms() {
		if !strings.Contains(string(b), `cis490_alerts_open{symptom="`+s+`"}`) {
			t.Errorf("no rule for %s", s)
		}
	}
	if n := strings.Count(string(b), "symptom="); n != len(fleet.Symptoms()) {
		t.Errorf("%d rules for %d symptoms", n, len(fleet.Symptoms()))
	}
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not here")
	}
	if out, err := exec.Command(tool, "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
