package orchestrate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"cis490/internal/dictionary"
	"cis490/internal/episode"
)

const steady = `
sleep 0.3; echo "event busy one two" >&3
timeout 0.5 sha256sum /dev/zero || :
echo "event quiet" >&3; sleep 0.2
`

type processRow struct {
	Wall      int64  `json:"t_wall_ns"`
	Mono      int64  `json:"t_mono_ns"`
	Source    string `json:"source"`
	Processes int    `json:"processes"`
	UserMS    int64  `json:"user_ms"`
	SystemMS  int64  `json:"system_ms"`
	RSS       int64  `json:"rss_bytes"`
	IO        *struct {
		ReadChars int64 `json:"rchar"`
	} `json:"io"`
	Procs []struct {
		Command string `json:"comm"`
		RunNS   uint64 `json:"run_ns"`
	} `json:"procs"`
}

func TestOnce_RecordsARealTree(t *testing.T) {
	o := options(t, profile(steady))
	meta, dir := one(t, o)
	if meta.Verdict != episode.Accepted || meta.Reason != "" || len(meta.Notes) > 0 {
		t.Errorf("verdict %s, reason %q, notes %q", meta.Verdict, meta.Reason, meta.Notes)
	}
	if got, want := phases(t, dir), "clean<start working<busy dormant<quiet"; got != want {
		t.Errorf("labels %s, want %s", got, want)
	}
	if meta.Counter != 1 || meta.Host != "lab-01" || meta.Code.Commit != commit || meta.Experiment != o.Experiment.Digest {
		t.Errorf("meta %+v", meta)
	}
	samples := rows[processRow](t, filepath.Join(dir, episode.TelemetryFile("proc")))
	if len(samples) != meta.Rows["proc"] || len(samples) < 12 {
		t.Errorf("%d rows, meta says %d", len(samples), meta.Rows["proc"])
	}
	last, seen := processRow{}, map[string]bool{}
	for _, s := range samples {
		if s.Mono <= last.Mono || s.UserMS < last.UserMS || s.SystemMS < last.SystemMS || s.Source != "proc" {
			t.Fatalf("row does not follow: %+v after %+v", s, last)
		}
		for _, p := range s.Procs {
			seen[p.Command] = true
		}
		last = s
	}
	if !seen["sh"] || !seen["sha256sum"] || !seen["timeout"] {
		t.Errorf("commands seen: %v", seen)
	}
	if cpu := last.UserMS + last.SystemMS; cpu < 20 { // a busy machine gives it little
		t.Errorf("%d ms of processor time for half a second of hashing", cpu)
	}
	if last.IO == nil || last.IO.ReadChars < 1<<20 {
		t.Errorf("io %+v", last.IO)
	}
	for _, source := range []string{"proc", "pressure"} {
		if meta.Sampling[source].Hz == 0 {
			t.Errorf("no sampling of %s in meta", source)
		}
	}
	if samples[0].Processes != 0 || samples[0].UserMS != 0 {
		t.Errorf("the first row is not of before the command: %+v", samples[0])
	}
	// Every file is closed again: only the episode is left.
	if left, err := os.ReadDir(filepath.Join(o.DataDir, "episodes", ".work")); err != nil || len(left) > 0 {
		t.Errorf("working folders: %v, %v", left, err)
	}
}

// An episode says how it came about: the experiment, its files, the host and its clock.
func TestOnce_RecordsItsProvenance(t *testing.T) {
	script := filepath.Join(t.TempDir(), "load.sh")
	if err := os.WriteFile(script, []byte("echo 'event busy' >&3; echo 'event quiet' >&3; sleep 0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	toml := strings.Replace(profile(""), `["/bin/sh", "-c", '''''']`, `["sh", "`+script+`"]`, 1)
	toml = strings.Replace(toml, "weight = 1", "weight = 1\nclass = \"malicious\"", 1)
	o := options(t, toml)
	meta, dir := one(t, o)
	if meta.Verdict != episode.Accepted || meta.Class != "malicious" || meta.Machine == nil || meta.Machine.Cores < 1 {
		t.Errorf("%+v", meta)
	}
	if in := meta.Inputs; len(in) != 2 || in[1].Path != script || len(in[0].Digest) != 64 || in[0].Digest == in[1].Digest {
		t.Errorf("inputs %+v", meta.Inputs)
	}
	kept, err := os.ReadFile(filepath.Join(dir, episode.ExperimentFile))
	if err != nil || string(kept) != toml {
		t.Errorf("%s: %v\n%s", episode.ExperimentFile, err, kept)
	}
	matchesSchemas(t, dir)
	for _, l := range rows[episode.Label](t, filepath.Join(dir, episode.LabelsFile)) {
		if l.Class != "malicious" {
			t.Errorf("label %+v", l)
		}
	}
}

// matchesSchemas validates all files of an episode but QEMU's against docs/data.
func matchesSchemas(t *testing.T, dir string) {
	t.Helper()
	for _, f := range dictionary.Files() {
		if f.Source() == "qmp" {
			continue
		}
		schema, err := jsonschema.NewCompiler().Compile(filepath.Join("../../docs/data", f.SchemaName()))
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		parts := [][]byte{content}
		if f.Rows {
			parts = bytes.Split(bytes.TrimSpace(content), []byte("\n"))
		}
		for _, part := range parts {
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(part))
			if err == nil {
				err = schema.Validate(v)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", f.Name, part, err)
			}
		}
	}
}

func TestOnce_Labels(t *testing.T) {
	for name, c := range map[string]struct {
		script, labels, reason string
		uses                   map[string]string
	}{
		"no event in its budget": {
			"sleep 9", "clean<start failed<budget", `no event "busy" within the 2s of phase "clean"`,
			map[string]string{"budget": "failed"},
		},
		"doubled": {
			"echo event busy >&3; echo event busy >&3; echo event quiet >&3; echo event quiet again >&3",
			"clean<start working<busy dormant<quiet", "",
			map[string]string{"busy": "began doubled", "quiet": "began doubled"},
		},
		"out of order": {
			"echo event quiet >&3; echo event busy >&3; echo event quiet >&3; echo event busy >&3",
			"clean<start working<busy dormant<quiet", "",
			map[string]string{"quiet": "early began", "busy": "began late"},
		},
		"late": {
			"sleep 2.5; echo event busy >&3",
			"clean<start failed<budget", `no event "busy"`,
			nil,
		},
		"exits early": {
			"echo event busy >&3; echo out of luck >&2; exit 3",
			"clean<start working<busy failed<exit", `the command ended (exit 3; its last output: out of luck) in phase "working"`,
			map[string]string{"exit": "failed"},
		},
		"fails at the end": {
			"echo event busy >&3; echo event quiet >&3; exit 1",
			"clean<start working<busy dormant<quiet failed<exit", `the command ended (exit 1) in phase "dormant"`,
			nil,
		},
		"killed": {
			"kill -KILL $$", "clean<start failed<exit", "the command ended (signal SIGKILL) in phase \"clean\"",
			nil,
		},
		"reports failed": {
			"echo event busy >&3; echo event failed no session >&3; sleep 9",
			"clean<start working<busy failed<failed", "the workload reported failed: no session",
			map[string]string{"failed": "failed"},
		},
		"reports end": {
			"echo event busy >&3; echo event end too soon >&3; echo event quiet >&3; echo event end >&3; sleep 9",
			"clean<start working<busy dormant<quiet", "",
			map[string]string{"end": "early ended"},
		},
		"own notes and nonsense": {
			`echo event busy >&3; echo event coffee is ready >&3; echo hello >&3; echo "event Ünsinn" >&3; echo event quiet >&3`,
			"clean<start working<busy dormant<quiet", "",
			map[string]string{"coffee": "note", "malformed": " "},
		},
		"last line without newline": {
			`echo event busy >&3; printf "event quiet" >&3`,
			"clean<start working<busy dormant<quiet", "", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meta, dir := one(t, options(t, profile(c.script)))
			if got := phases(t, dir); got != c.labels {
				t.Errorf("labels %s, want %s", got, c.labels)
			}
			want := episode.Accepted
			if c.reason != "" {
				want = episode.Failed
			}
			if meta.Verdict != want || !strings.Contains(meta.Reason, c.reason) {
				t.Errorf("verdict %s: %s; want %s: %s", meta.Verdict, meta.Reason, want, c.reason)
			}
			for event, want := range c.uses {
				if got := uses(t, dir, event); got != want {
					t.Errorf("events %s: %q, want %q", event, got, want)
				}
			}
		})
	}
}

func TestOnce_EventsByThePathOfTheSocket(t *testing.T) {
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("needs a program that connects to a Unix socket")
	}
	meta, dir := one(t, options(t, profile(`exec 3>&-
python3 -c '
import os, socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["CIS490_EVENTS"])
s.sendall(b"event busy\nevent quiet\n")
'`)))
	if got, want := phases(t, dir), "clean<start working<busy dormant<quiet"; got != want || meta.Verdict != episode.Accepted {
		t.Errorf("labels %s, want %s; %s", got, want, meta.Reason)
	}
}
