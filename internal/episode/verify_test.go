package episode_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"cis490/internal/episode"
)

const (
	meta = `{"schema_version":1,"episode":"01K0000000000000000000000A","host":"lab-01","profile":"hash","counter":1,"slot":0,
"experiment_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
"code_version":{"version":"1","commit":"0123456789abcdef0123456789abcdef01234567","dirty":false},
"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:00:05Z","rows":{"proc":50,"pressure":0},
"sampling":{"proc":{"hz":10},"pressure":{"hz":1}},"load":{},"verdict":"accepted"}`
	events = `{"t_wall_ns":1000000001,"t_mono_ns":1,"source":"proc","event":"started"}
{"t_wall_ns":1000000002,"t_mono_ns":2,"source":"proc","event":"first_row"}
{"t_wall_ns":1000000003,"t_mono_ns":3,"source":"pressure","event":"started"}
{"t_wall_ns":1000000004,"t_mono_ns":4,"source":"orchestrate","event":"start","use":"began"}
{"t_wall_ns":1000000005,"t_mono_ns":5,"source":"pressure","event":"unavailable","detail":"not supported"}
{"t_wall_ns":3000000000,"t_mono_ns":2000000000,"source":"workload","event":"busy","use":"began"}
{"t_wall_ns":6000000000,"t_mono_ns":5000000000,"source":"proc","event":"finished"}
{"t_wall_ns":6000000000,"t_mono_ns":5000000000,"source":"pressure","event":"finished"}
{"t_wall_ns":6000000000,"t_mono_ns":5000000000,"source":"orchestrate","event":"exit","use":"ended"}
`
	labels = `{"t_wall_ns":1000000004,"t_mono_ns":4,"phase":"clean","event":"start"}
{"t_wall_ns":3000000000,"t_mono_ns":2000000000,"phase":"hashing","event":"busy"}
`
)

func telemetry() string {
	var b strings.Builder
	for i := range int64(50) {
		mono := i * 100_000_000
		fmt.Fprintf(&b, `{"t_wall_ns":%d,"t_mono_ns":%d,"source":"proc"}`+"\n", mono+1_000_000_000, mono)
	}
	return b.String()
}

func sound() map[string]string {
	return map[string]string{
		"meta.json": meta, "events.jsonl": events, "labels.jsonl": labels, "done.marker": "accepted\n",
		"telemetry-proc.jsonl": telemetry(), "telemetry-pressure.jsonl": "",
	}
}

func verify(files map[string]string) []string {
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
	}
	_, faults := episode.Verify(fsys)
	var all []string
	for _, f := range faults {
		all = append(all, f.String())
	}
	return all
}

func every(lines []string, n int) string {
	var b strings.Builder
	for i := 0; i < len(lines); i += n {
		b.WriteString(lines[i])
	}
	return b.String()
}

func TestVerify_Sound(t *testing.T) {
	if got := verify(sound()); got != nil {
		t.Errorf("faults of a sound episode: %q", got)
	}
}

func TestVerify_FindsEachFault(t *testing.T) {
	lines := strings.SplitAfter(telemetry(), "\n")
	without := func(from, to int) string {
		return strings.Join(lines[:from], "") + strings.Join(lines[to:], "")
	}
	for name, c := range map[string]struct{ file, content, want string }{
		"half":      {"done.marker", "-", "done.marker: missing"},
		"no meta":   {"meta.json", "-", "meta.json: open meta.json"},
		"torn meta": {"meta.json", meta[:200], "meta.json: unexpected end"},
		"schema":    {"meta.json", strings.Replace(meta, `"schema_version":1`, `"schema_version":2`, 1), "schema_version 2"},
		"bad host":  {"meta.json", strings.Replace(meta, "lab-01", "Lab 01", 1), `meta.json: host "Lab 01"`},
		"no commit": {
			"meta.json", strings.Replace(meta, `"commit":"0123456789abcdef0123456789abcdef01234567",`, "", 1),
			"no code_version.commit",
		},
		"abandoned":         {"meta.json", strings.Replace(meta, "accepted", "abandoned", 1), `verdict "abandoned"`},
		"failed, no reason": {"meta.json", strings.Replace(meta, "accepted", "failed", 1), `verdict "failed" with the reason ""`},
		"no events":         {"events.jsonl", "-", "events.jsonl: missing"},
		"events back":       {"events.jsonl", events + events, "events.jsonl:10: t_mono_ns 1 is before"},
		"no labels":         {"labels.jsonl", "", "labels.jsonl: no labels"},
		"first label":       {"labels.jsonl", strings.SplitAfter(labels, "\n")[1], `labels.jsonl:1: the first label begins by "busy"`},
		"unexplained": {
			"labels.jsonl", strings.Replace(labels, "2000000000", "2000000001", 1),
			`labels.jsonl:2: no event "busy" at its time`,
		},
		"missing label": {"labels.jsonl", strings.SplitAfter(labels, "\n")[0], "1 labels, but 2 events"},
		"label twice":   {"labels.jsonl", labels + strings.SplitAfter(labels, "\n")[1], `phase "hashing" begins a second time`},
		"failed label": {
			"labels.jsonl", strings.Replace(labels, "hashing", "failed", 1),
			`the last label is "failed", the verdict "accepted"`,
		},
		"fewer rows": {"telemetry-proc.jsonl", without(20, 21), "49 rows, but meta.json counts 50"},
		"gap":        {"telemetry-proc.jsonl", without(20, 32), "telemetry-proc.jsonl:21: a gap of 1.3s at 10 Hz"},
		"thin":       {"telemetry-proc.jsonl", every(lines, 2), "25 rows where 49 were due"},
		"torn row":   {"telemetry-proc.jsonl", telemetry()[:len(telemetry())-5], "telemetry-proc.jsonl:50: the line does not end"},
		"clock back": {"telemetry-proc.jsonl", lines[1] + lines[0] + without(0, 2), "telemetry-proc.jsonl:2: t_mono_ns 0 is not after"},
		"wall steps": {
			"telemetry-proc.jsonl", strings.Replace(telemetry(), `"t_wall_ns":2000000000`, `"t_wall_ns":9000000000`, 1),
			"differ by 7s",
		},
		"other source":     {"telemetry-proc.jsonl", strings.Replace(telemetry(), `"source":"proc"`, `"source":"qmp"`, 1), `:1: source "qmp"`},
		"uncounted":        {"telemetry-qmp.jsonl", "", `meta.json counts no rows of "qmp"`},
		"lost source":      {"telemetry-pressure.jsonl", "-", "telemetry-pressure.jsonl: missing"},
		"silent downgrade": {"events.jsonl", strings.Replace(events, "unavailable", "started", 1), `0 rows, but no event "unavailable"`},
	} {
		t.Run(name, func(t *testing.T) {
			files := sound()
			if files[c.file] = c.content; c.content == "-" {
				delete(files, c.file)
			}
			if got := verify(files); !strings.Contains(strings.Join(got, "\n"), c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
