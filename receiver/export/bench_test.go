package export_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

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

const benchEpisodes = 2000

// BenchmarkExport exports 2000 episodes of the demo's size from a disk to Parquet. It compares
// the time with that of decompressing and parsing them alone, with encoding/json and with the
// export's own reader, and with a loader of Python's standard library and the zstd program
// that makes the same rows. On a busy machine, compare the CPU times. Then it exports ten
// times as many, for the memory.
func BenchmarkExport(b *testing.B) {
	s := &folder{dir: b.TempDir(), times: 1}
	inMemory := demo(b, benchEpisodes)
	for id, tarball := range inMemory.tarballs {
		if err := os.WriteFile(s.path(id), tarball, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	s.rows, inMemory = inMemory.rows, nil
	out := b.TempDir()
	for i := 0; b.Loop(); i++ {
		var m export.Manifest
		o := export.Options{
			Source: s, Out: filepath.Join(out, fmt.Sprint(i)), Format: export.Parquet, Split: export.Split{By: "host"},
			Limits: episode.FormatLimits(),
		}
		took := measure(b, syscall.RUSAGE_SELF, func() (err error) {
			m, err = export.Run(b.Context(), o)
			return err
		})
		if m.Episodes != benchEpisodes {
			b.Fatal(m.Episodes, m.LeftOut)
		}
		took.report(b, took, "export")
		took.report(b, measure(b, syscall.RUSAGE_SELF, func() error { return parseAlone(s) }), "std-parsing")
		took.report(b, measure(b, syscall.RUSAGE_SELF, func() error { return export.ReadAlone(b.Context(), s) }), "own-parsing")
		for _, name := range []string{"python3", "zstd"} {
			if _, err := exec.LookPath(name); err != nil {
				b.Skipf("no %s: not compared with it", name)
			}
		}
		took.report(b, measure(b, syscall.RUSAGE_CHILDREN, func() error { return python(b, s, m) }), "python")

		resetPeak(b)
		s.times, o.Out = 10, o.Out+"-many"
		if m, err := export.Run(b.Context(), o); err != nil || m.Episodes != 10*benchEpisodes {
			b.Fatal(m.Episodes, err)
		}
		s.times = 1
		b.ReportMetric(peak(b), "MiB-peak-of-10x")
	}
}

// cost is the time that something took.
type cost struct{ wall, cpu float64 }

func measure(b *testing.B, who int, f func() error) cost {
	cpu := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	}
	runtime.GC()
	start, before := time.Now(), cpu()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return cost{time.Since(start).Seconds(), cpu() - before}
}

// report reports a cost, and how many times that of the export it is.
func (c cost) report(b *testing.B, of cost, name string) {
	b.ReportMetric(of.wall, name+"-s")
	b.ReportMetric(of.cpu, name+"-cpu-s")
	if of != c {
		b.ReportMetric(of.wall/c.wall, "x-"+name)
		b.ReportMetric(of.cpu/c.cpu, "x-"+name+"-cpu")
	}
}

// resetPeak makes the kernel measure the peak of the memory from here on.
func resetPeak(b *testing.B) {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
}

// peak returns the largest resident memory of this process, in MiB.
func peak(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}

// folder is tarballs in a folder, each listed several times.
type folder struct {
	dir   string
	rows  []catalogue.Row
	times int
}

func (f *folder) path(id ident.EpisodeID) string {
	return filepath.Join(f.dir, string(id)+".tar.zst")
}

func (f *folder) Rows(context.Context, catalogue.Query) iter.Seq2[catalogue.Row, error] {
	return func(yield func(catalogue.Row, error) bool) {
		for i := range f.times * len(f.rows) {
			if !yield(f.rows[i%len(f.rows)], nil) {
				return
			}
		}
	}
}

func (f *folder) Open(_ context.Context, r catalogue.Row) (io.ReadCloser, error) {
	return os.Open(f.path(r.Episode))
}

// parseAlone decompresses and parses all episodes on all cores, with encoding/json.
func parseAlone(s *folder) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, r := range s.rows {
		g.Go(func() error {
			f, err := os.Open(s.path(r.Episode))
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			return episode.Inspect(f, r.Episode, func(name string, _ int64, content io.Reader) error {
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
		})
	}
	return g.Wait()
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

// loader reads tarballs into rows as an export has them, and prints how many of each table.
const loader = `
import bisect, glob, io, json, subprocess, sys, tarfile
counters = json.loads(sys.argv[2])
tables = {}

def flat(row, prefix=""):
    for k, v in row.items():
        if isinstance(v, dict):
            yield from flat(v, prefix + k + "_")
        else:
            yield prefix + k, v

def add(table, joined, row, last):
    out = dict(joined)
    lists = []
    for k, v in flat(row):
        if isinstance(v, list):
            lists.append((k, v))
        else:
            out[k] = v
    key = (table, out.get("pid"), out.get("start_ticks"), out.get("device"))
    before = last.get(key)
    if before and out["t_mono_ns"] > before["t_mono_ns"]:
        passed = (out["t_mono_ns"] - before["t_mono_ns"]) / 1e9
        for c in counters.get(table, ()):
            if c in out and c in before:
                out[c + "_per_s"] = (out[c] - before[c]) / passed
    last[key] = out
    tables.setdefault(table, []).append(out)
    for k, v in lists:
        if table + "_" + k in counters:
            times = {"t_wall_ns": out["t_wall_ns"], "t_mono_ns": out["t_mono_ns"]}
            for element in v:
                add(table + "_" + k, {**joined, **times}, element, last)

for path in glob.glob(sys.argv[1] + "/*.tar.zst"):
    raw = subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True).stdout
    t = tarfile.open(fileobj=io.BytesIO(raw))
    files = {m.name.split("/")[1]: m for m in t.getmembers()}
    read = lambda name: [json.loads(l) for l in t.extractfile(files[name])]
    meta = json.load(t.extractfile(files["meta.json"]))
    labels = read("labels.jsonl"); at = [l["t_mono_ns"] for l in labels]
    tables.setdefault("episodes", []).append(dict(flat(meta)))
    last = {}
    for name in files:
        if name.endswith(".jsonl"):
            table = name.removesuffix(".jsonl").removeprefix("telemetry-")
            for r in read(name):
                i = bisect.bisect_right(at, r["t_mono_ns"]) - 1
                joined = {"episode": meta["episode"], "host": meta["host"], "profile": meta["profile"]}
                joined["phase"] = labels[i]["phase"] if i >= 0 else "_before"
                joined["class"] = labels[i].get("class") if i >= 0 else None
                add(table, joined, r, last)
print(json.dumps({k: len(v) for k, v in tables.items()}))
`

// python loads all episodes with Python, and compares the rows of each table with those that
// were exported.
func python(b *testing.B, s *folder, m export.Manifest) error {
	counters, err := json.Marshal(export.Counters())
	if err != nil {
		return err
	}
	out, err := exec.Command("python3", "-c", loader, s.dir, string(counters)).Output()
	if err != nil {
		return err
	}
	got, want := map[string]int64{}, map[string]int64{}
	for _, split := range m.Splits {
		for table, n := range split.Rows {
			want[table] += n
		}
	}
	if err := json.Unmarshal(out, &got); err != nil || !maps.Equal(got, want) {
		b.Errorf("Python has %v rows, the export %v: %v", got, want, err)
	}
	return nil
}
