package commands_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEpisode_ForgesNoLine: text of an episode never becomes an output line of its own.
func TestEpisode_ForgesNoLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "01ARZ3NDEKTSV4RRFFQ69G5FA1")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const evil = `x\nforged\tsound, profile y`
	meta := `{"schema_version":1,"episode":"01ARZ3NDEKTSV4RRFFQ69G5FA1","host":"lab-01","profile":"EVIL","code_version":{"version":"EVIL"},` +
		`"notes":["EVIL"],"verdict":"EVIL","reason":"EVIL"`
	for name, content := range map[string]string{
		"labels.jsonl": `{"phase":"EVIL","event":"EVIL"}` + "\n", "events.jsonl": `{"source":"EVIL","event":"EVIL"}` + "\n", "done.marker": "",
		"telemetry-proc.jsonl": `{"t_mono_ns":1,"source":"EVIL"}` + "\n", "meta.json": meta + `,"rows":{"proc":1}}`,
		"telemetry-x\nforged.jsonl": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(content, "EVIL", evil)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"show", "verify"} {
		_, out, errs := runHere(t, "episode", command, dir)
		if !strings.Contains(out, "forged") {
			t.Errorf("%s does not report it: %s", command, errs)
		}
		for line := range strings.Lines(out + errs) {
			if strings.HasPrefix(strings.TrimSpace(line), "forged") {
				t.Errorf("%s:\n%s%s", command, out, errs)
			}
		}
	}
}
