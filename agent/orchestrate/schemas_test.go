package orchestrate_test

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"cis490/internal/episode"
)

var wanted = flag.Int("episodes", recorders, "how many episodes TestSchemas_ValidateRealEpisodes records")

const recorders = 8

// several has profiles of two classes that differ in what they record: a short tree of
// processes, one that reads and writes, and one that fails.
const several = `schema = 1
name = "several"
[[profile]]
name = "rest"
class = "benign"
weight = 2
grace = "300ms"
command = ["/bin/sh", "-c", 'sleep 0.1; echo event busy with "quotes" >&3; sleep 0.1; echo event quiet >&3; sleep 0.05']
[profile.collectors]
proc_hz = 20
[[profile.phase]]
name = "clean"
event = "start"
budget = "5s"
[[profile.phase]]
name = "working"
event = "busy"
budget = "5s"
[[profile.phase]]
name = "dormant"
event = "quiet"
class = "idle"
budget = "5s"
[[profile]]
name = "copy"
class = "malicious"
weight = 2
command = ["/bin/sh", "-c", 'sh -c "sleep 0.2; :" & head -c 1000000 /dev/zero >x; for i in 1 2 3; do sha256sum x; sleep 0.05; done; wait']
[profile.collectors]
proc_hz = 20
[[profile.phase]]
name = "armed"
event = "start"
budget = "5s"
[[profile]]
name = "late"
weight = 1
command = ["/bin/sh", "-c", 'exec sleep 5']
[[profile.phase]]
name = "armed"
event = "start"
budget = "200ms"
`

// TestSchemas_ValidateRealEpisodes records episodes of several profiles, as many at the same
// time as tests run in parallel, and validates each row of each file with its published
// schema. With QEMU, one more recorder records virtual machines.
func TestSchemas_ValidateRealEpisodes(t *testing.T) {
	v := validator{schemas: published(t), rows: map[string]int{}}
	began := time.Now()
	t.Run("recorders", func(t *testing.T) {
		for i := range recorders + 1 {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				toml, most := several, *wanted
				if i == recorders { // one more for machines, which take longer
					toml, most = machine(t, bootSector), recorders+1+*wanted/10
				}
				o := options(t, toml)
				r := open(t, o)
				for n := i; n < most; n += recorders {
					profile := o.Experiment.Profiles[(n+n/recorders)%len(o.Experiment.Profiles)]
					m, err := r.Once(t.Context(), profile.Name)
					// A process that another recorder forks has the lock too until it execs.
					for try := 0; err != nil && try < 100 && strings.Contains(err.Error(), "another recorder uses"); try++ {
						time.Sleep(10 * time.Millisecond)
						m, err = r.Once(t.Context(), profile.Name)
					}
					if err != nil {
						t.Fatal(err)
					}
					v.validate(t, filepath.Join(o.DataDir, "episodes", string(m.Episode)), m.Profile+" "+string(m.Verdict))
				}
			})
		}
	})
	t.Logf("%d episodes in %s: %v", *wanted, time.Since(began).Round(time.Second), v.rows)
	for name := range v.schemas {
		if v.rows[name] == 0 && name != episode.TelemetryFile("qmp") {
			t.Errorf("no rows of %s", name)
		}
	}
}

// validator validates episodes, and counts them by profile and verdict, and rows by file.
type validator struct {
	schemas map[string]*jsonschema.Schema // by the file whose rows they describe
	mu      sync.Mutex
	rows    map[string]int
}

// published returns the schemas in docs/data.
func published(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	paths, err := filepath.Glob("../../docs/data/*.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*jsonschema.Schema{}
	for _, path := range paths {
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		s, err := c.Compile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".schema.json") + ".jsonl"
		all[strings.Replace(name, "meta.jsonl", episode.MetaFile, 1)] = s
	}
	return all
}

// validate validates the files of an episode, and removes it.
func (v *validator) validate(t *testing.T, dir, what string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{what: 1}
	for _, f := range files {
		schema := v.schemas[f.Name()]
		if schema == nil {
			if strings.Contains(f.Name(), ".json") {
				t.Errorf("%s has no schema", f.Name())
			}
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		rows := strings.Lines(string(b))
		if f.Name() == episode.MetaFile {
			rows = func(yield func(string) bool) { yield(string(b)) }
		}
		for row := range rows {
			counts[f.Name()]++
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(row))
			if err == nil {
				err = schema.Validate(value)
			}
			if err != nil {
				t.Errorf("%s:%d: %v\n%s", f.Name(), counts[f.Name()], err, row)
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, n := range counts {
		v.rows[name] += n
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}
