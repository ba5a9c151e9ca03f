package export_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/receiver/catalogue"
	"cis490/receiver/export"
)

// source is episodes in memory.
type source struct {
	rows     []catalogue.Row
	tarballs map[ident.EpisodeID][]byte
	fail     func(opened int) error
	opened   atomic.Int64
}

func (s *source) Rows(context.Context, catalogue.Query) iter.Seq2[catalogue.Row, error] {
	return func(yield func(catalogue.Row, error) bool) {
		for _, r := range s.rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s *source) Open(_ context.Context, r catalogue.Row) (io.ReadCloser, error) {
	if n := s.opened.Add(1); s.fail != nil {
		if err := s.fail(int(n)); err != nil {
			return nil, err
		}
	}
	b, ok := s.tarballs[r.Episode]
	if !ok {
		return nil, export.ErrGone
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

const experiment = "schema = 1\n"

// add adds an episode of three phases, whose files change by edit.
func (s *source) add(t testing.TB, host ident.Host, class string, edit func(files map[string]string)) catalogue.Row {
	t.Helper()
	n := len(s.rows)
	id, err := ident.NewEpisodeID(time.UnixMilli(1_700_000_000_000+int64(n)*7000), bytes.NewReader(make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(experiment))
	meta, err := json.Marshal(episode.Meta{
		SchemaVersion: 1, Episode: id, Host: host, Profile: "hash", Class: class, Experiment: ident.Digest(hex.EncodeToString(sum[:])),
		Code: episode.Code{Version: "v", Commit: ident.Commit(strings.Repeat("a", 40))}, Start: id.Time(), End: id.Time().Add(4 * time.Second),
		Rows: map[string]int{"proc": 4, "pressure": 2}, Verdict: episode.Accepted,
	})
	if err != nil {
		t.Fatal(err)
	}
	proc := ""
	for i := range 4 {
		proc += fmt.Sprintf(`{"t_wall_ns":%d,"t_mono_ns":%d,"source":"proc","processes":1,"threads":1,`+
			`"user_ms":%d,"system_ms":0,"rss_bytes":%d,"fds":3,`+
			`"io":{"rchar":%d,"wchar":0,"syscr":1,"syscw":0,"read_bytes":0,"write_bytes":0},"later":[1],"procs":[{"pid":7,"ppid":1,"start_ticks":5,`+
			`"comm":"sh","state":"S","user_ms":%d,"system_ms":0,"threads":1,"rss_bytes":9,"vsize_bytes":9,"minflt":1,"majflt":0,"fds":3,`+
			`"run_ns":1,"wait_ns":1,"slices":1}]}`+"\n", 1000+i, i*1_000_000_000, i*100*n, i, i*4096, i*10)
	}
	files := map[string]string{
		"meta.json": string(meta), "experiment.toml": experiment, "done.marker": "accepted\n",
		"labels.jsonl": `{"t_wall_ns":1,"t_mono_ns":500000000,"phase":"clean","class":"benign","event":"start"}` + "\n" +
			`{"t_wall_ns":1,"t_mono_ns":2000000000,"phase":"busy","class":"` + class + `","event":"go"}` + "\n",
		"events.jsonl":         `{"t_wall_ns":1,"t_mono_ns":500000000,"source":"workload","event":"start","use":"began"}` + "\n",
		"telemetry-proc.jsonl": proc,
		"telemetry-pressure.jsonl": `{"t_wall_ns":1,"t_mono_ns":0,"source":"pressure","cpu_some_us":5,"memory_some_us":0,"memory_full_us":0,` +
			`"io_some_us":0,"io_full_us":0}` + "\n" + `{"t_wall_ns":1,"t_mono_ns":500000000,"source":"pressure","cpu_some_us":10}` + "\n",
	}
	if edit != nil {
		edit(files)
	}
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := episode.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	packed, err := p.Pack(t.Context(), &b, episode.Source{FS: disk.OS{}, Dir: dir, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	r := catalogue.Row{Host: host, Episode: id, Digest: packed.Digest, Size: packed.Size, State: catalogue.OK, Profile: "hash", Class: class}
	if s.tarballs == nil {
		s.tarballs = map[ident.EpisodeID][]byte{}
	}
	s.tarballs[id] = b.Bytes()
	s.rows = append(s.rows, r)
	return r
}

// fleet returns 60 episodes of five hosts.
func fleet(t *testing.T) *source {
	s := &source{}
	for i := range 60 {
		s.add(t, ident.Host(fmt.Sprintf("lab-%02d", i%5)), []string{"benign", "malicious"}[i%2], nil)
	}
	return s
}

func run(t *testing.T, o export.Options) export.Manifest {
	t.Helper()
	if o.Limits == (episode.Limits{}) {
		o.Limits = episode.FormatLimits()
	}
	m, err := export.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tree returns the digest of every file below a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir)] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

type procRow struct {
	Episode string   `parquet:"episode"`
	Phase   string   `parquet:"phase,optional"`
	Class   string   `parquet:"class,optional"`
	Mono    int64    `parquet:"t_mono_ns,optional"`
	User    int64    `parquet:"user_ms,optional"`
	Rate    *float64 `parquet:"user_ms_per_s,optional"`
	IO      int64    `parquet:"io_rchar,optional"`
}

func TestRun_JoinsLabelsAndRates(t *testing.T) {
	s, out := &source{}, t.TempDir()+"/out"
	s.add(t, "lab-01", "malicious", nil)
	s.add(t, "lab-01", "malicious", nil)
	m := run(t, export.Options{Source: s, Out: out, Format: export.Parquet})
	rows, err := parquet.ReadFile[procRow](filepath.Join(out, "data/all/proc-00000.parquet"))
	if err != nil || len(rows) != 8 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	second := rows[4:]
	for i, want := range []struct{ phase, class string }{{"_before", ""}, {"clean", "benign"}, {"busy", "malicious"}, {"busy", "malicious"}} {
		r := second[i]
		if r.Phase != want.phase || r.Class != want.class || r.Episode != string(s.rows[1].Episode) || r.IO != int64(i*4096) {
			t.Errorf("row %d: %+v, want %+v", i, r, want)
		}
		if first := i == 0; first != (r.Rate == nil) || !first && *r.Rate != 100 {
			t.Errorf("row %d: rate %v", i, r.Rate)
		}
	}
	if m.Episodes != 2 || m.Splits[""].Rows["proc_procs"] != 8 || m.Splits[""].Rows["episodes"] != 2 || m.Splits[""].Rows["labels"] != 4 {
		t.Errorf("%+v", m)
	}
	if kept, err := os.ReadFile(filepath.Join(out, "experiments", fmt.Sprintf("%x.toml", sha256.Sum256([]byte(experiment))))); err != nil ||
		string(kept) != experiment {
		t.Errorf("%s: %v", kept, err)
	}
}

// Two exports are byte-equal, and one that is cut off at any tarball is continued to the same
// bytes, in every format.
func TestRun_IsDeterministicAndResumes(t *testing.T) {
	s := fleet(t)
	for _, f := range export.Formats() {
		o := export.Options{
			Source: s, Format: f, Split: export.Split{By: "host"}, Out: t.TempDir() + "/a", Name: "x", Limits: episode.FormatLimits(),
		}
		m := run(t, o)
		want := tree(t, o.Out)
		if m.Episodes != 60 || len(m.Splits) != 3 || m.Splits["test"].Episodes == 0 || m.Splits["validation"].Episodes == 0 {
			t.Errorf("%s: %+v", f, m.Splits)
		}
		for _, file := range m.Files {
			if want["/"+file.Path] != string(file.Digest) {
				t.Errorf("%s: the manifest has %s, the file %s", file.Path, file.Digest, want["/"+file.Path])
			}
		}
		for _, at := range []int{1, 30, 59} {
			o.Out = t.TempDir() + "/b"
			s.opened.Store(0)
			s.fail = func(n int) error {
				if n >= at {
					return errors.New("the network is down")
				}
				return nil
			}
			if _, err := export.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the network is down") {
				t.Fatalf("%s: %v", f, err)
			}
			s.fail = nil
			other := o
			other.Name = "y"
			if _, err := export.Run(t.Context(), other); err == nil || !strings.Contains(err.Error(), "other options") {
				t.Errorf("other options: %v", err)
			}
			run(t, o)
			if diff := cmp.Diff(want, tree(t, o.Out)); diff != "" {
				t.Errorf("%s, cut off at %d:\n%s", f, at, diff)
			}
		}
		if _, err := export.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is a complete export already") {
			t.Errorf("a second time: %v", err)
		}
		again, first := o, map[string]string(nil)
		again.Snapshot = filepath.Join(o.Out, export.SnapshotFile)
		for _, cores := range []int{1, 4} {
			again.Out = t.TempDir() + "/c"
			before := runtime.GOMAXPROCS(cores)
			got := run(t, again)
			runtime.GOMAXPROCS(before)
			if diff := cmp.Diff(m.Files, got.Files); diff != "" || got.Snapshot != m.Snapshot {
				t.Errorf("%s, by the snapshot %s of %s, on %d cores:\n%s", f, got.Snapshot, m.Snapshot, cores, diff)
			}
			if files := tree(t, again.Out); first == nil {
				first = files
			} else if diff := cmp.Diff(first, files); diff != "" {
				t.Errorf("%s, the same snapshot twice:\n%s", f, diff)
			}
		}
	}
}

// What is damaged, too large, lies or is gone is listed, and the rest is exported.
func TestRun_LeavesOutAndLists(t *testing.T) {
	s, out := &source{}, t.TempDir()+"/out"
	sound := s.add(t, "lab-01", "benign", nil)
	line := func(name, add string) func(map[string]string) {
		return func(files map[string]string) { files[name] += add }
	}
	want := map[ident.EpisodeID]string{
		s.add(t, "lab-01", "", line("telemetry-proc.jsonl", "{\n")).Episode:                                  "telemetry-proc.jsonl:5",
		s.add(t, "lab-01", "", line("telemetry-pressure.jsonl", `{"t_mono_ns":9}`+"\n")).Episode:             "3 rows",
		s.add(t, "lab-01", "", line("telemetry-pressure.jsonl", strings.Repeat("\x00", 5<<20))).Episode:      "limit of 4194304",
		s.add(t, "lab-01", "", func(m map[string]string) { m["labels.jsonl"] = "" }).Episode:                 "no labels",
		s.add(t, "lab-01", "", func(m map[string]string) { delete(m, "labels.jsonl") }).Episode:              "precedes labels.jsonl",
		s.add(t, "lab-01", "", line("labels.jsonl", `{"t_mono_ns":1,"phase":"x","event":"y"}`+"\n")).Episode: "its times decrease",
		s.add(t, "lab-01", "", line("telemetry-proc.jsonl", `{"t_mono_ns":"later"}`+"\n")).Episode:           "telemetry-proc.jsonl:5",
		s.add(t, "lab-01", "", line("a/b/deep", "")).Episode:                                                 "in more than 1 folders",
		s.add(t, "lab-01", "", func(m map[string]string) {
			for i := range 20 {
				m[fmt.Sprint("file-", i)] = ""
			}
		}).Episode: "limit of 20",
		s.add(t, "lab-01", "", func(m map[string]string) {
			m["meta.json"] = strings.Replace(m["meta.json"], "lab-01", "lab-02", 1)
		}).Episode: "meta.json is of lab-02",
	}
	add := func() catalogue.Row { return s.add(t, "lab-01", "", nil) }
	cut, gone, lies, refused := add(), add(), add(), add()
	s.tarballs[cut.Episode] = s.tarballs[cut.Episode][:200]
	want[cut.Episode] = "read tarball"
	delete(s.tarballs, gone.Episode)
	want[gone.Episode] = "not stored here"
	s.rows[len(s.rows)-2].Digest = sound.Digest
	want[lies.Episode] = "SHA-256"
	s.rows[len(s.rows)-1].State, s.rows[len(s.rows)-1].Problem = catalogue.Refused, "is of another host"
	want[refused.Episode] = "refused: is of another host"

	limits := episode.FormatLimits()
	limits.Bytes, limits.Files, limits.Depth = 4<<20, 20, 1
	m := run(t, export.Options{Source: s, Out: out, Format: export.JSONL, Limits: limits})
	if m.Episodes != 1 || m.LeftOut != len(want) {
		t.Errorf("%d episodes, %d left out, want %d", m.Episodes, m.LeftOut, len(want))
	}
	b, err := os.ReadFile(filepath.Join(out, export.LeftOutFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var l export.LeftOut
		if err := json.Unmarshal([]byte(line), &l); err != nil || !strings.Contains(l.Why, want[l.Episode]) {
			t.Errorf("%s: %v, want %q", line, err, want[l.Episode])
		}
	}
	f, err := os.Open(filepath.Join(out, "data/all/proc-00000.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	first := []byte(`{"episode":"` + string(sound.Episode))
	if rows, err := io.ReadAll(z); err != nil || bytes.Count(rows, []byte("\n")) != 4 || !bytes.HasPrefix(rows, first) {
		t.Errorf("%s: %v", rows, err)
	}
}

func TestRun_VerifyRunsAllChecks(t *testing.T) {
	s := &source{}
	s.add(t, "lab-01", "", nil) // has no events "started"
	m := run(t, export.Options{Source: s, Out: t.TempDir() + "/out", Format: export.CSV, Verify: true})
	if m.Episodes != 0 || m.LeftOut != 1 {
		t.Errorf("%+v", m)
	}
}

// WebDataset shards are tar archives, whose samples are the episodes' files under one key.
func TestRun_WebDataset(t *testing.T) {
	s, out := fleet(t), t.TempDir()+"/out"
	m := run(t, export.Options{Source: s, Out: out, Format: export.WebDataset})
	samples := map[string]int{}
	for _, file := range m.Files {
		f, err := os.Open(filepath.Join(out, file.Path))
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			key, _, _ := strings.Cut(h.Name, ".")
			samples[key]++
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(samples) != 60 || samples["lab-00-"+string(s.rows[0].Episode)] != 7 {
		t.Errorf("%v", samples)
	}
}

func TestRun_RefusesWhatCannotBe(t *testing.T) {
	s := &source{}
	s.add(t, "lab-01", "", nil)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]export.Options{
		"is not empty":      {Source: s, Out: dir},
		"fewer than 3":      {Source: s, Out: t.TempDir() + "/a", Split: export.Split{By: "host"}},
		"no episodes match": {Source: &source{}, Out: t.TempDir() + "/b"},
	} {
		o.Format = export.Parquet
		if _, err := export.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
