package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"cis490/internal/dictionary"
	"cis490/internal/episode"
)

// oddRows are rows that are unusual, and whether encoding/json accepts them.
var oddRows = map[string]bool{
	`{}`: true, ` { "t_mono_ns" : 5 , "later" : { "a" : [ 1, "]}\"" ] } } `: true, `{"t_mono_ns":null,"io":null,"procs":null}`: true,
	`{"procs":[{"pid":1,"comm":"a\u00e9\n\"b\\"},{"pid":2,"comm":"ü","io":{"rchar":-3}},{}]}`: true, `{"procs":[]}`: true,
	`{"t_mono_ns":9223372036854775807,"user_ms":-9223372036854775808}`: true, `{"t_mono_ns":-0}`: true,
	"{\"source\":\"\xff\xfe\"}": true, `{"source":"\ud800"}`: true,

	``: false, `[]`: false, `{`: false, `{"a"}`: false, `{"a":}`: false, `{"a":1,}`: false, `{"a":1}x`: false, `{,}`: false, `{"a" 1}`: false,
	`{"t_mono_ns":9223372036854775808}`: false, `{"t_mono_ns":1.5}`: false, `{"t_mono_ns":01}`: false, `{"t_mono_ns":1e3}`: false,
	`{"t_mono_ns":-}`: false, `{"t_mono_ns":"1"}`: false, `{"t_mono_ns":true}`: false, `{"t_mono_ns":nul}`: false, `{"io":[]}`: false,
	`{"procs":{}}`: false, `{"procs":[1]}`: false, `{"procs":[{}`: false, `{"procs":[{},]}`: false, `{"source":1}`: false,
	"{\"source\":\"a\nb\"}": false, `{"source":"\x"}`: false, `{"source":"a`: false, `{"source":"\`: false,
	`{"later":[}`: false, `{"later":01}`: false,
}

func procDecoder() *decoder {
	d := &decoder{}
	d.begin(allFormats()[episode.TelemetryFile("proc")])
	return d
}

func TestDecoder_AcceptsWhatEncodingJSONDoes(t *testing.T) {
	d := procDecoder()
	for row, ok := range oddRows {
		if err := d.row([]byte(row)); (err == nil) != ok {
			t.Errorf("%s: %v", row, err)
		}
	}
}

// A row of many small elements, which are larger as cells, is an error.
func TestDecoder_BoundsItsMemory(t *testing.T) {
	d := procDecoder()
	err := d.row([]byte(`{"procs":[` + strings.Repeat("{},", 5_000_000) + `{}]}`))
	if most := cap(d.rows[1]); err == nil || !strings.Contains(err.Error(), "elements") || most > 2*maxRowCells {
		t.Errorf("%d cells: %v", most, err)
	}
}

// Of elements that come and go, only the last ones are remembered, and rates go on.
func TestConverter_BoundsItsMemory(t *testing.T) {
	f := allFormats()[episode.TelemetryFile("proc")]
	e := &reading{reader: &reader{}, phases: [][2]cell{{}}, out: nowhere{}}
	e.decoder.begin(f)
	c := converter{reading: e, format: f, last: map[string]*lastRow{}}
	for i := range 3000 {
		row := fmt.Sprintf(`{"t_mono_ns":%d,"procs":[{"pid":1,"user_ms":%d},{"pid":%d},{"pid":%d},{"pid":%d}]}`, i*1e9, i*7, 3*i+2, 3*i+3, 3*i+4)
		if err := errors.Join(e.decoder.row([]byte(row)), c.convert()); err != nil {
			t.Fatal(err)
		}
	}
	one := c.last[string(append([]byte{1}, make([]byte, 7)...))+"\x01"+strings.Repeat("\x00", 8)]
	if len(c.last) > 2*maxLast || one == nil || one.counters[0] != (counter{true, 2999 * 7}) {
		t.Errorf("%d elements are remembered; %+v", len(c.last), one)
	}
}

// What the decoder accepts is JSON.
func FuzzDecoder(f *testing.F) {
	for row := range oddRows {
		f.Add([]byte(row))
	}
	d := procDecoder()
	f.Fuzz(func(t *testing.T, row []byte) {
		if err := d.row(row); err == nil && !json.Valid(row) {
			t.Error("the decoder accepts what is not JSON")
		}
	})
}

// Each value of a row of JSON is in its cell, whatever else the row has.
func TestDecoder_ReadsEveryKey(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range allFormats() {
		d := &decoder{}
		d.begin(f)
		for range 300 {
			want := make([][]cell, len(f.levels))
			row, err := json.Marshal(randomRow(r, f, f.top, want, 0, -1))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.row(row); err != nil {
				t.Fatalf("%s: %v", row, err)
			}
			for i := range want {
				if fmt.Sprint(d.rows[i]) != fmt.Sprint(want[i]) {
					t.Fatalf("%s: level %d: %v, want %v", row, i, d.rows[i], want[i])
				}
			}
		}
	}
}

// randomRow returns an object with some of a node's keys and some others, and puts the cells
// that it should become into a row of the level that begins at base; -1: into a new one.
func randomRow(r *rand.Rand, f *format, n *node, want [][]cell, level, base int) map[string]any {
	if base < 0 {
		base = len(want[level])
		want[level] = append(want[level], make([]cell, len(f.levels[level].leaves))...)
	}
	row := map[string]any{"other": []any{1, "x]}", nil, map[string]any{"pid": 1}}}
	for _, c := range n.children {
		value, into := any(nil), cell{}
		switch kind := r.IntN(8); {
		case kind == 0: // not there
			continue
		case kind == 1: // null
		case c.kind == dictionary.Object:
			value = randomRow(r, f, c, want, level, base)
		case c.kind == dictionary.List:
			list := []any{}
			for range r.IntN(4) {
				list = append(list, randomRow(r, f, c, want, c.level, -1))
			}
			value = list
		case c.kind == dictionary.Integer:
			n := int64(r.Uint64()) >> r.IntN(64)
			value, into = n, num(n)
		case c.kind == dictionary.Number:
			x := r.NormFloat64()
			value, into = x, real(x)
		case c.kind == dictionary.Boolean:
			value, into = kind < 5, truth(kind < 5)
		default:
			text := []string{"sh", "", "a \"b\\ \n", "ü\u202e", strings.Repeat("x", 100)}[r.IntN(5)]
			value, into = text, cell{set: true, s: []byte(text)}
		}
		row[c.name] = value
		if c.leaf != none && c.kind != dictionary.Object && c.kind != dictionary.List {
			want[level][base+c.leaf] = into
		}
	}
	return row
}
