package orchestrate_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cis490/agent/orchestrate"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/experiment"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// TestMain lets the test binary be its own supervisor, as cis490 is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		if err := orchestrate.Supervise("/proc", os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		syscall.Exit(0) // os.Exit sleeps for a second under the race detector
	}
	os.Exit(m.Run())
}

const commit = "0123456789abcdef0123456789abcdef01234567"

type gate func() (wire.Verdict, error)

func (g gate) Gate(context.Context, ident.Commit) (wire.Verdict, error) { return g() }

func yes() (wire.Verdict, error) { return wire.Verdict{Accepted: true}, nil }

// log is a logger whose lines can be read while it is written to.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// profile writes an experiment with one profile: clean at the start, busy at
// its event, quiet at its.
func profile(script string) string {
	return fmt.Sprintf(`schema = 1
name = "test"
[[profile]]
name = "test"
weight = 1
grace = "300ms"
command = ["/bin/sh", "-c", '''%s''']
[profile.collectors]
proc_hz = 20
[[profile.phase]]
name = "clean"
event = "start"
budget = "2s"
[[profile.phase]]
name = "working"
event = "busy"
budget = "2s"
[[profile.phase]]
name = "dormant"
event = "quiet"
budget = "2s"
`, script)
}

// options returns what a working orchestrator needs.
func options(t testing.TB, toml string) orchestrate.Options {
	t.Helper()
	e, err := experiment.Parse("test.toml", []byte(toml))
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "episodes"), 0o770); err != nil {
		t.Fatal(err)
	}
	l := &log{}
	t.Cleanup(func() {
		if lines := l.String(); t.Failed() && lines != "" {
			t.Log(lines)
		}
	})
	return orchestrate.Options{
		FS: disk.OS{}, DataDir: data, Host: "lab-01", Build: version.Info{Version: "test", Commit: commit},
		Experiment: e, Gate: gate(yes), DiskReserve: 1, OutboxLimit: 1 << 40,
		Supervisor: []string{"test", "supervise"}, Entropy: rand.Reader, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// withScript changes the command of the one profile.
func withScript(t *testing.T, o orchestrate.Options, script string) orchestrate.Options {
	t.Helper()
	var err error
	if o.Experiment, err = experiment.Parse("test.toml", []byte(profile(script))); err != nil {
		t.Fatal(err)
	}
	return o
}

func open(t testing.TB, o orchestrate.Options) *orchestrate.Orchestrator {
	t.Helper()
	r, err := orchestrate.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// one records one episode and returns its directory.
func one(t testing.TB, o orchestrate.Options) (episode.Meta, string) {
	t.Helper()
	meta, err := open(t, o).Once(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(o.DataDir, "episodes", string(meta.Episode))
	onDisk, err := episode.ReadMeta(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return onDisk, dir
}

func rows[T any](t *testing.T, path string) []T {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []T
	for line := range strings.Lines(string(b)) {
		var row T
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, row)
	}
	return all
}

// phases returns the labels as "phase<event".
func phases(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for _, l := range rows[episode.Label](t, filepath.Join(dir, episode.LabelsFile)) {
		all = append(all, l.Phase+"<"+l.Event)
	}
	return strings.Join(all, " ")
}

// uses returns how the events of a name were used.
func uses(t *testing.T, dir, event string) string {
	t.Helper()
	var all []string
	for _, e := range rows[episode.Event](t, filepath.Join(dir, episode.EventsFile)) {
		if e.Event == event {
			all = append(all, string(e.Use))
		}
	}
	return strings.Join(all, " ")
}

// empty fails unless the data folder holds no episode and no working folder.
func empty(t *testing.T, o orchestrate.Options) {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(o.DataDir, "episodes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	work, err := os.ReadDir(filepath.Join(o.DataDir, "episodes", ".work"))
	if err == nil && len(work) > 0 {
		t.Errorf("working folder left behind: %v", work)
	}
}
