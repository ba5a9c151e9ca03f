package episode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"cis490/internal/ident"
	"cis490/internal/plain"
)

// Overview is an episode as it is shown to people.
type Overview struct {
	Meta   Meta
	Phases []Phase
	Curves []Curve
	End    int64 // nanoseconds: the last moment of any row
}

// Phase is a label with its length. Times are nanoseconds since the origin.
type Phase struct {
	Name  string `json:"phase"`
	Event string `json:"event"`
	Begin int64  `json:"begin_ns"`
	End   int64  `json:"end_ns"`
}

// Length returns how long the phase lasts, in nanoseconds.
func (p Phase) Length() int64 { return p.End - p.Begin }

// Curve is one figure over time.
type Curve struct {
	Source, Name string
	Unit         string // unit of Value, such as "bytes"
	Points       []Point
}

// Point is a value at a moment, in nanoseconds since the origin.
type Point struct {
	Mono  int64
	Value float64
}

// Units of curves.
const (
	UnitPercent = "%"
	UnitBytes   = "bytes"
	UnitRate    = "bytes/s"
	UnitCount   = "count"
)

// rowFigures has the keys of all sources that curves are made of.
type rowFigures struct {
	Mono      int64 `json:"t_mono_ns"`
	UserMS    int64 `json:"user_ms"`
	SystemMS  int64 `json:"system_ms"`
	RSS       int64 `json:"rss_bytes"`
	Processes int64 `json:"processes"`
	IO        struct {
		ReadChars  int64 `json:"rchar"`
		WriteChars int64 `json:"wchar"`
	} `json:"io"`
	CPUSome    int64 `json:"cpu_some_us"`
	MemorySome int64 `json:"memory_some_us"`
	IOSome     int64 `json:"io_some_us"`
	Balloon    int64 `json:"balloon_bytes"`
	Disks      disks `json:"blocks"`
}

// disks is the number of bytes that all block devices read and wrote. It is decoded
// without keeping the list, which may be as long as a row: rows full of devices would
// fill the memory.
type disks int64

// maxBlocks bounds the block devices of a row, far above what a guest has.
const maxBlocks = 1000

// UnmarshalJSON implements json.Unmarshaler.
func (d *disks) UnmarshalJSON(b []byte) error {
	*d = 0
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t == nil {
		return err
	} else if t != json.Delim('[') {
		return fmt.Errorf("blocks: want a list, got %.20s", b)
	}
	for n := 1; dec.More(); n++ {
		if n > maxBlocks {
			return fmt.Errorf("blocks: more than %d", maxBlocks)
		}
		var block struct {
			ReadBytes  int64 `json:"read_bytes"`
			WriteBytes int64 `json:"write_bytes"`
		}
		if err := dec.Decode(&block); err != nil {
			return err
		}
		*d += disks(block.ReadBytes + block.WriteBytes)
	}
	return nil
}

// figure describes how a curve is read from rows. If perSecond is not 0, the curve is the
// value's growth per second times perSecond, else the value itself.
type figure struct {
	source, name, unit string
	value              func(rowFigures) int64
	perSecond          float64
}

func figures() []figure {
	return []figure{
		{"proc", "cpu", UnitPercent, func(r rowFigures) int64 { return r.UserMS + r.SystemMS }, 100.0 / 1e3},
		{"proc", "memory", UnitBytes, func(r rowFigures) int64 { return r.RSS }, 0},
		{"proc", "processes", UnitCount, func(r rowFigures) int64 { return r.Processes }, 0},
		{"proc", "io", UnitRate, func(r rowFigures) int64 { return r.IO.ReadChars + r.IO.WriteChars }, 1},
		{"qmp", "guest disks", UnitRate, func(r rowFigures) int64 { return int64(r.Disks) }, 1},
		{"qmp", "guest memory", UnitBytes, func(r rowFigures) int64 { return r.Balloon }, 0},
		{"pressure", "host cpu stalls", UnitPercent, func(r rowFigures) int64 { return r.CPUSome }, 100.0 / 1e6},
		{"pressure", "host memory stalls", UnitPercent, func(r rowFigures) int64 { return r.MemorySome }, 100.0 / 1e6},
		{"pressure", "host io stalls", UnitPercent, func(r rowFigures) int64 { return r.IOSome }, 100.0 / 1e6},
	}
}

// ReadOverview reads an episode's directory. It does not validate the episode: Verify
// does.
func ReadOverview(fsys fs.FS) (Overview, error) {
	g := gathering{sources: map[string][]rowFigures{}, most: maxRows}
	names := []string{MetaFile, LabelsFile, EventsFile}
	for i := 0; i < len(names); i++ {
		f, err := fsys.Open(names[i])
		if err != nil {
			return Overview{}, fmt.Errorf("read %s: missing or not readable: %w", names[i], err)
		}
		err = errors.Join(g.file(names[i], f), f.Close())
		if err != nil {
			return Overview{}, err
		}
		if i == 0 { // it lists the sources
			for source := range g.meta.Rows {
				names = append(names, TelemetryFile(source))
			}
		}
	}
	return g.overview(), nil
}

// maxRows bounds what ReadOverview accepts. The lower limits of ReadOverviewOf fit the
// memory of a small receiver, and are still far above what a recording has.
const (
	maxRows       = 2_000_000
	maxGlance     = 256 << 20 // bytes, unpacked
	maxGlanceRows = 200_000
	maxLabel      = 100 // characters of a phase's name, or its event's
)

// ReadOverviewOf reads an episode from its tarball, which may come from anyone, in one pass
// and without writing anything. An episode that is too large is an error.
func ReadOverviewOf(tarball io.Reader, id ident.EpisodeID) (Overview, error) {
	g := gathering{sources: map[string][]rowFigures{}, most: maxGlanceRows}
	limits := Limits{maxGlance, MaxFiles, MaxDepth}
	err := inspect(tarball, id, limits, func(name string, _ int64, content io.Reader) error { return g.file(name, content) })
	if err == nil && g.meta == nil {
		err = fmt.Errorf("read tarball: it has no %s", MetaFile)
	}
	if err != nil {
		return Overview{}, err
	}
	return g.overview(), nil
}

// gathering is an unfinished overview: files come in any order.
type gathering struct {
	meta    *Meta
	labels  []Label
	end     int64
	sources map[string][]rowFigures
	rows    int
	most    int // rows that it accepts; 0: any number
}

// file reads what an overview needs of a file.
func (g *gathering) file(name string, content io.Reader) error {
	source, telemetry := strings.CutPrefix(strings.TrimSuffix(name, ".jsonl"), TelemetryPrefix)
	switch {
	case name == MetaFile:
		b, err := io.ReadAll(io.LimitReader(content, maxMeta+1))
		if err == nil {
			g.meta = &Meta{}
			err = json.Unmarshal(b, g.meta)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return nil
	case name == LabelsFile:
		return take(g, name, content, func(l Label) {
			l.Phase, l.Event = plain.Line(l.Phase, maxLabel), plain.Line(l.Event, maxLabel)
			g.labels = append(g.labels, l)
		})
	case name == EventsFile:
		return take(g, name, content, func(e Event) { g.end = max(g.end, e.Mono) })
	case telemetry && TelemetryFile(source) == name:
		return take(g, name, content, func(r rowFigures) {
			g.sources[source] = append(g.sources[source], r)
			g.end = max(g.end, r.Mono)
		})
	}
	return nil
}

// take decodes a file of rows. It returns an error for the first row that does not
// decode.
func take[T any](g *gathering, name string, content io.Reader, each func(T)) (first error) {
	wrong := func(line int, format string, args ...any) {
		if first == nil {
			first = fmt.Errorf("read %s", Fault{name, line, fmt.Sprintf(format, args...)})
		}
	}
	rowsOf(untilFault{content, &first}, func(line int, row T) {
		if g.rows++; g.most > 0 && g.rows > g.most {
			wrong(line, "more than %d rows", g.most)
			return
		}
		each(row)
	}, wrong)
	return first
}

// untilFault ends a file after its first fault, so that the rest is not decoded.
type untilFault struct {
	io.Reader
	fault *error
}

// Read implements io.Reader.
func (r untilFault) Read(p []byte) (int, error) {
	if *r.fault != nil {
		return 0, io.EOF
	}
	return r.Reader.Read(p)
}

func (g *gathering) overview() Overview {
	o := Overview{Meta: *g.meta, End: g.end}
	for _, f := range figures() {
		if rows := g.sources[f.source]; len(rows) > 1 {
			o.Curves = append(o.Curves, Curve{f.source, f.name, f.unit, f.points(rows)})
		}
	}
	for i, l := range g.labels {
		end := o.End
		if i+1 < len(g.labels) {
			end = g.labels[i+1].Mono
		}
		o.Phases = append(o.Phases, Phase{l.Phase, l.Event, l.Mono, end})
	}
	return o
}

func (f figure) points(rows []rowFigures) []Point {
	var all []Point
	for i, r := range rows {
		if f.perSecond == 0 {
			all = append(all, Point{r.Mono, float64(f.value(r))})
			continue
		}
		if i == 0 || r.Mono <= rows[i-1].Mono {
			continue
		}
		grown := float64(f.value(r)-f.value(rows[i-1])) * f.perSecond
		all = append(all, Point{r.Mono, grown / (float64(r.Mono-rows[i-1].Mono) / 1e9)})
	}
	return all
}

// Buckets returns the curve's mean in each of n equal parts of the time from 0 to end. A
// part between two points has the value of the nearer one; if it is farther from both than
// points usually are from each other, it is NaN: the source wrote nothing there.
func (c Curve) Buckets(n int, end int64) []float64 {
	sums, counts := make([]float64, n), make([]int, n)
	for _, p := range c.Points {
		i := bucket(p.Mono, n, end)
		sums[i] += p.Value
		counts[i]++
	}
	for i := range sums {
		if counts[i] > 0 {
			sums[i] /= float64(counts[i])
		} else {
			sums[i] = c.near(int64((float64(i) + 0.5) / float64(n) * float64(end)))
		}
	}
	return sums
}

func (c Curve) near(mono int64) float64 {
	if len(c.Points) < 2 {
		return math.NaN()
	}
	usual := (c.Points[len(c.Points)-1].Mono - c.Points[0].Mono) / int64(len(c.Points)-1)
	at := math.NaN()
	least := usual
	for _, p := range c.Points {
		if d := max(p.Mono-mono, mono-p.Mono); d < least {
			at, least = p.Value, d
		}
	}
	return at
}

// PhaseAt returns the index of the phase that most of a bucket belongs to, with the time
// divided as in Buckets; -1 before the first.
func (o Overview) PhaseAt(i, n int) int {
	middle := int64((float64(i) + 0.5) / float64(n) * float64(o.End))
	at := -1
	for k, p := range o.Phases {
		if p.Begin <= middle {
			at = k
		}
	}
	return at
}

func bucket(mono int64, n int, end int64) int {
	if end <= 0 {
		return 0
	}
	return min(max(int(float64(mono)/float64(end)*float64(n)), 0), n-1)
}

// Max returns the curve's largest value, 0 if it has no points.
func (c Curve) Max() float64 {
	most := 0.0
	for _, p := range c.Points {
		most = math.Max(most, p.Value)
	}
	return most
}
