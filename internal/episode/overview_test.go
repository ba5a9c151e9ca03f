package episode_test

import (
	"archive/tar"
	"bytes"
	"maps"
	"math"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/episode"
)

func file(lines ...string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(strings.Join(lines, "\n") + "\n")}
}

func overviewFS() fstest.MapFS {
	return fstest.MapFS{
		"meta.json": file(`{"schema_version":1,"episode":"01J0000000000000000000000A","profile":"hash","rows":{"proc":3,"pressure":1}}`),
		"events.jsonl": file(`{"t_mono_ns":0,"source":"orchestrate","event":"start"}`,
			`{"t_mono_ns":4000000000,"source":"orchestrate","event":"exit"}`),
		"labels.jsonl": file(`{"t_mono_ns":0,"phase":"clean","event":"start"}`, `{"t_mono_ns":1000000000,"phase":"busy","event":"go"}`),
		"telemetry-proc.jsonl": file(
			`{"t_mono_ns":0,"rss_bytes":10,"user_ms":0,"system_ms":0,"io":{"rchar":0,"wchar":0}}`,
			`{"t_mono_ns":1000000000,"rss_bytes":30,"user_ms":100,"system_ms":100,"io":{"rchar":500,"wchar":500}}`,
			`{"t_mono_ns":3000000000,"rss_bytes":20,"user_ms":2100,"system_ms":100,"io":{"rchar":500,"wchar":500}}`),
		"telemetry-pressure.jsonl": file(`{"t_mono_ns":0,"cpu_some_us":5}`),
	}
}

func TestReadOverview(t *testing.T) {
	o, err := episode.ReadOverview(overviewFS())
	if err != nil {
		t.Fatal(err)
	}
	if o.End != 4e9 || len(o.Phases) != 2 || o.Phases[0].End != 1e9 ||
		o.Phases[1] != (episode.Phase{Name: "busy", Event: "go", Begin: 1e9, End: 4e9}) {
		t.Errorf("end %d, phases %+v", o.End, o.Phases)
	}
	got := map[string][]episode.Point{}
	for _, c := range o.Curves {
		got[c.Name] = c.Points
	}
	for name, want := range map[string][]episode.Point{
		"cpu":    {{Mono: 1e9, Value: 20}, {Mono: 3e9, Value: 100}}, // percent of a core
		"memory": {{Mono: 0, Value: 10}, {Mono: 1e9, Value: 30}, {Mono: 3e9, Value: 20}},
		"io":     {{Mono: 1e9, Value: 1000}, {Mono: 3e9, Value: 0}},
	} {
		if len(got[name]) != len(want) {
			t.Errorf("%s: %v, want %v", name, got[name], want)
			continue
		}
		for i := range want {
			if p := got[name][i]; p.Mono != want[i].Mono || math.Abs(p.Value-want[i].Value) > 1e-9 {
				t.Errorf("%s: %v, want %v", name, got[name], want)
			}
		}
	}
	if got["host cpu stalls"] != nil {
		t.Error("one row makes a curve")
	}
	if a, b, c := o.PhaseAt(0, 4), o.PhaseAt(1, 4), o.PhaseAt(3, 4); a != 0 || b != 1 || c != 1 {
		t.Errorf("phases at 0.5, 1.5 and 3.5 s: %d, %d, %d", a, b, c)
	}
}

func TestCurve_Buckets(t *testing.T) {
	c := episode.Curve{Points: []episode.Point{
		{Mono: 0, Value: 1},
		{Mono: 10, Value: 3},
		{Mono: 40, Value: 5},
		{Mono: 45, Value: 7},
		{Mono: 100, Value: 9},
	}}
	got := c.Buckets(10, 100)
	want := []float64{1, 3, 3, 5, 6, 7, 7, math.NaN(), 9, 9} // points are 25 apart, usually
	for i := range want {
		if math.IsNaN(want[i]) != math.IsNaN(got[i]) || (!math.IsNaN(want[i]) && got[i] != want[i]) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if got := (episode.Curve{}).Buckets(2, 0); !math.IsNaN(got[0]) {
		t.Errorf("no points: %v", got)
	}
}

func TestReadOverview_TellsWhereItCannotRead(t *testing.T) {
	for name, c := range map[string]struct {
		change func(fstest.MapFS)
		want   string
	}{
		"no meta":   {func(f fstest.MapFS) { delete(f, "meta.json") }, "read meta.json"},
		"no labels": {func(f fstest.MapFS) { delete(f, "labels.jsonl") }, "read labels.jsonl: missing"},
		"torn row":  {func(f fstest.MapFS) { f["telemetry-proc.jsonl"] = file(`{"t_mono_ns":0}`, `{"t_mono`) }, "read telemetry-proc.jsonl:2:"},
	} {
		f := overviewFS()
		c.change(f)
		if _, err := episode.ReadOverview(f); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
}

// Reading a tarball in one pass gives the same as reading the directory.
func TestReadOverviewOf(t *testing.T) {
	files := map[string]string{}
	for name, f := range overviewFS() {
		files[name] = string(f.Data)
	}
	dir := t.TempDir()
	write(t, dir, files)
	tarball, _, err := pack(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := episode.ReadOverviewOf(bytes.NewReader(tarball), id)
	if err != nil {
		t.Fatal(err)
	}
	want, err := episode.ReadOverview(overviewFS())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for what, change := range map[string]func(map[string]string){
		"200000 rows": func(f map[string]string) {
			f["telemetry-proc.jsonl"] = strings.Repeat(`{"t_mono_ns":1}`+"\n", 200_001)
		},
		"limit of 268435456": func(f map[string]string) { f["big"] = strings.Repeat("\x00", 257<<20) },
	} {
		dir, bad := t.TempDir(), maps.Clone(files)
		change(bad)
		write(t, dir, bad)
		tarball, _, err := pack(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := episode.ReadOverviewOf(bytes.NewReader(tarball), id); err == nil || !regexp.MustCompile(what).MatchString(err.Error()) {
			t.Errorf("error %v, want %s", err, what)
		}
	}
	if _, err := episode.ReadOverviewOf(bytes.NewReader(entry(t, tar.Header{Name: string(id) + "/x"}, "")),
		id); err == nil || !strings.Contains(err.Error(), "no meta.json") {
		t.Errorf("error %v, want that there is no meta.json", err)
	}
}

// A row of nothing but block devices, and a phase whose name is as long as a row, are not
// kept: serve reads overviews of what any host sent.
func TestReadOverview_KeepsNoLongLists(t *testing.T) {
	fs := overviewFS()
	fs["meta.json"] = file(`{"schema_version":1,"rows":{"qmp":2}}`)
	rows := func(blocks string) *fstest.MapFile {
		return file(`{"t_mono_ns":0,"blocks":null}`, `{"t_mono_ns":1000000000,"blocks":[`+blocks+`]}`)
	}
	fs["telemetry-qmp.jsonl"] = rows(`{"read_bytes":2},{"write_bytes":3}`)
	fs["labels.jsonl"] = file(`{"phase":"a\nverdict accepted` + strings.Repeat("x", 1<<20) + `"}`)
	o, err := episode.ReadOverview(fs)
	if err != nil || o.Curves[0].Points[0].Value != 5 {
		t.Errorf("%v, %+v", err, o.Curves)
	}
	if name := o.Phases[0].Name; len(name) > 200 || strings.Contains(name, "\n") {
		t.Errorf("a phase's name of %d bytes: %.40q", len(name), name)
	}
	fs["telemetry-qmp.jsonl"] = rows(strings.Repeat("{},", 1<<20) + "{}")
	if _, err := episode.ReadOverview(fs); err == nil || !strings.Contains(err.Error(), "more than 1000") {
		t.Errorf("a million devices: %v", err)
	}
}
