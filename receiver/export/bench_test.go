package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/receiver/catalogue"
	"cis490/receiver/export"
)

// demo returns n episodes of the demo's size: 5 seconds, 52 rows of proc with 3 processes.
func demo(t testing.TB, n int) *source {
	s := &source{}
	for i := range n {
		s.add(t, ident.Host(fmt.Sprintf("lab-%02d", i%20)), []string{"benign", "malicious"}[i%2], func(files map[string]string) {
			line, _, _ := strings.Cut(files["telemetry-proc.jsonl"], "\n")
			one := line[strings.Index(line, `"procs":[`)+len(`"procs":[`) : len(line)-2]
			rows := ""
			for k := range 52 {
				row := strings.Replace(line, `"t_mono_ns":0`, fmt.Sprintf(`"t_mono_ns":%d`, k*100_000_000), 1)
				as := func(pid string) string { return strings.Replace(one, `"pid":7`, `"pid":`+pid, 1) }
				row = strings.Replace(row, one, one+","+as("8")+","+as("9"), 1)
				rows += strings.Replace(row, `"user_ms":0`, fmt.Sprintf(`"user_ms":%d`, k*i), 1) + "\n"
			}
			files["telemetry-proc.jsonl"] = rows
			files["meta.json"] = strings.Replace(files["meta.json"], `"proc":4`, `"proc":52`, 1)
		})
	}
	return s
}

// BenchmarkExport exports 2000 episodes of the demo's size to Parquet, and compares with
// decompressing and parsing them alone, and with a loader of Python's standard library and
// the zstd program.
func BenchmarkExport(b *testing.B) {
	s := demo(b, 2000)
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		m, err := export.Run(b.Context(), export.Options{
			Source: &parallel{source: s}, Out: filepath.Join(dir, fmt.Sprint(i)), Format: export.Parquet, Split: export.Split{By: "host"},
		})
		if err != nil || m.Episodes != 2000 {
			b.Fatal(m.LeftOut, err)
		}
		took, limit := time.Since(start), parseAlone(b, s)
		b.ReportMetric(took.Seconds(), "s/export")
		b.ReportMetric(100*limit.Seconds()/took.Seconds(), "%ofParsing")
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		b.ReportMetric(float64(mem.Sys)/(1<<20), "MiB-with-tarballs")
		if python, ok := pythonAlone(b, s); ok {
			b.ReportMetric(python.Seconds()/took.Seconds(), "xPython")
		}
	}
}

// parallel lets workers open episodes at the same time.
type parallel struct{ *source }

func (p *parallel) Open(_ context.Context, r catalogue.Row) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p.tarballs[r.Episode])), nil
}

// parseAlone decompresses and parses all episodes on all cores.
func parseAlone(b *testing.B, s *source) time.Duration {
	start := time.Now()
	var wg sync.WaitGroup
	work := make(chan ident.EpisodeID)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for id := range work {
				err := episode.Inspect(bytes.NewReader(s.tarballs[id]), id, func(name string, _ int64, content io.Reader) error {
					if !strings.HasSuffix(name, ".jsonl") {
						return nil
					}
					for dec := json.NewDecoder(content); dec.More(); {
						var v procLine
						if err := dec.Decode(&v); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	for id := range s.tarballs {
		work <- id
	}
	close(work)
	wg.Wait()
	return time.Since(start)
}

// procLine has the keys of the largest rows.
type procLine struct {
	Wall      int64 `json:"t_wall_ns"`
	Mono      int64 `json:"t_mono_ns"`
	Processes int64 `json:"processes"`
	Threads   int64 `json:"threads"`
	User      int64 `json:"user_ms"`
	System    int64 `json:"system_ms"`
	RSS       int64 `json:"rss_bytes"`
	FDs       int64 `json:"fds"`
	Procs     []struct {
		PID   int64  `json:"pid"`
		PPID  int64  `json:"ppid"`
		Start int64  `json:"start_ticks"`
		Comm  string `json:"comm"`
		State string `json:"state"`
		User  int64  `json:"user_ms"`
		Sys   int64  `json:"system_ms"`
		RSS   int64  `json:"rss_bytes"`
		Run   int64  `json:"run_ns"`
		Wait  int64  `json:"wait_ns"`
	} `json:"procs"`
}

const loader = `
import io, json, subprocess, sys, tarfile, glob, bisect
rows = []
for path in glob.glob(sys.argv[1] + "/*.tar.zst"):
    raw = subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True).stdout
    t = tarfile.open(fileobj=io.BytesIO(raw))
    files = {m.name.split("/")[1]: m for m in t.getmembers()}
    read = lambda name: [json.loads(l) for l in t.extractfile(files[name])]
    labels = read("labels.jsonl"); at = [l["t_mono_ns"] for l in labels]
    for name in files:
        if name.startswith("telemetry-"):
            last = None
            for r in read(name):
                i = bisect.bisect_right(at, r["t_mono_ns"]) - 1
                r["phase"] = labels[i]["phase"] if i >= 0 else "_before"
                rows.append(r)
print(len(rows))
`

// pythonAlone loads all episodes with Python, if it and zstd are here.
func pythonAlone(b *testing.B, s *source) (time.Duration, bool) {
	for _, name := range []string{"python3", "zstd"} {
		if _, err := exec.LookPath(name); err != nil {
			b.Logf("no %s: not compared with it", name)
			return 0, false
		}
	}
	dir := b.TempDir()
	for id, tarball := range s.tarballs {
		if err := os.WriteFile(filepath.Join(dir, string(id)+".tar.zst"), tarball, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	start := time.Now()
	if out, err := exec.Command("python3", "-c", loader, dir).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return time.Since(start), true
}
