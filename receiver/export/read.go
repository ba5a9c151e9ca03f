package export

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"cis490/internal/dictionary"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/receiver/catalogue"
)

// maxLine bounds a row of JSON, in bytes.
const maxLine = 16 << 20

// sink takes the rows of an episode.
type sink interface {
	row(t *table, cells []cell) error
}

// reader reads episodes. It keeps its buffers between them, and is for one goroutine.
type reader struct {
	formats map[string]*format // by file
	most    int64              // unpacked bytes of an episode
	lines   *bufio.Reader
	long    []byte
}

func newReader(most int64) *reader {
	r := &reader{formats: map[string]*format{}, most: most, lines: bufio.NewReaderSize(nil, 256<<10)}
	for _, f := range dictionary.Files() {
		if f.Rows {
			r.formats[f.Name] = formatOf(f, strings.TrimSuffix(strings.TrimPrefix(f.Name, episode.TelemetryPrefix), ".jsonl"))
		}
	}
	return r
}

// tables returns all tables, the one of episodes first.
func (r *reader) tables() []*table {
	all := []*table{episodesTable()}
	for _, f := range dictionary.Files() {
		if format, ok := r.formats[f.Name]; ok {
			for _, l := range format.levels {
				all = append(all, l.table)
			}
		}
	}
	return all
}

// reading is an episode that is being read.
type reading struct {
	*reader
	row    catalogue.Row
	out    sink
	meta   *episode.Meta
	labels []episode.Label
	counts map[string]int
	events []byte // until the labels are known
	// experiment is the experiment file, if the episode has it.
	experiment []byte
}

// read reads a tarball and hands its rows to a sink. It returns an error if the tarball is not
// the one that was catalogued, if it is over the limits, or if its rows are not those that its
// meta.json counts; rows that the sink was given are void then.
func (r *reader) read(tarball io.Reader, row catalogue.Row, out sink) (*reading, error) {
	sum := sha256.New()
	tarball = io.TeeReader(tarball, sum)
	e := &reading{reader: r, row: row, out: out, counts: map[string]int{}}
	if err := episode.InspectWithin(tarball, row.Episode, r.most, e.file); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, tarball); err != nil {
		return nil, err
	}
	if got := ident.Digest(hex.EncodeToString(sum.Sum(nil))); got != row.Digest {
		return nil, fmt.Errorf("the tarball's SHA-256 is %s, not %s", got, row.Digest)
	}
	return e, e.check()
}

// check compares the rows with the counts in meta.json.
func (e *reading) check() error {
	m := e.meta
	switch {
	case m == nil:
		return fmt.Errorf("%s is missing", episode.MetaFile)
	case m.Episode != e.row.Episode || m.Host != e.row.Host:
		return fmt.Errorf("%s is of %.70s/%.40s", episode.MetaFile, m.Host, m.Episode)
	case len(e.labels) == 0:
		return fmt.Errorf("%s has no labels", episode.LabelsFile)
	}
	for source, want := range m.Rows {
		if got := e.counts[episode.TelemetryFile(source)]; got != want {
			return fmt.Errorf("%s has %d rows, but %s counts %d", episode.TelemetryFile(source), got, episode.MetaFile, want)
		}
	}
	return nil
}

func (e *reading) file(name string, size int64, content io.Reader) error {
	switch f := e.formats[name]; {
	case name == episode.MetaFile || name == episode.ExperimentFile:
		b, err := io.ReadAll(io.LimitReader(content, 1<<20))
		if err == nil && int64(len(b)) < size {
			err = fmt.Errorf("has %d bytes", size)
		}
		if err == nil && name == episode.MetaFile {
			err = json.Unmarshal(b, &e.meta)
		} else {
			e.experiment = b
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	case name == episode.EventsFile: // comes before the labels, with which it is joined
		b, err := io.ReadAll(io.LimitReader(content, maxLine))
		if err == nil && int64(len(b)) < size {
			err = fmt.Errorf("has %d bytes", size)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.events = b
		return nil
	case f != nil:
		if name == episode.LabelsFile {
			if err := e.readLabels(content, size); err != nil {
				return err
			}
			return e.rows(episode.EventsFile, e.formats[episode.EventsFile], bytes.NewReader(e.events))
		}
		if len(e.labels) == 0 {
			return fmt.Errorf("%s precedes %s, or has no labels", name, episode.LabelsFile)
		}
		return e.rows(name, f, content)
	}
	return nil
}

// readLabels keeps the labels, and writes their table.
func (e *reading) readLabels(content io.Reader, size int64) error {
	b, err := io.ReadAll(io.LimitReader(content, maxLine))
	if err == nil && int64(len(b)) < size {
		err = fmt.Errorf("has %d bytes", size)
	}
	for line := range bytes.Lines(b) {
		var l episode.Label
		if err == nil {
			err = json.Unmarshal(line, &l)
		}
		if n := len(e.labels); err == nil && n > 0 && l.Mono < e.labels[n-1].Mono {
			err = errors.New("its times decrease")
		}
		e.labels = append(e.labels, l)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", episode.LabelsFile, err)
	}
	return e.rows(episode.LabelsFile, e.formats[episode.LabelsFile], bytes.NewReader(b))
}

// rows reads the rows of a file.
func (e *reading) rows(name string, f *format, content io.Reader) error {
	e.lines.Reset(content)
	value := reflect.New(f.goes)
	c := converter{reading: e, format: f, last: map[string]lastRow{}}
	zero := reflect.Zero(f.goes)
	for n := 1; ; n++ {
		line, err := e.line()
		if errors.Is(err, io.EOF) && len(line) == 0 {
			e.counts[name] = n - 1
			return nil
		}
		if err == nil {
			value.Elem().Set(zero)
			if err = json.Unmarshal(line, value.Interface()); err == nil {
				err = c.convert(value.Elem())
			}
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
}

// line returns the next line, valid until the one after it.
func (e *reading) line() ([]byte, error) {
	part, err := e.lines.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return part, err
	}
	e.long = e.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		if e.long = append(e.long, part...); len(e.long) > maxLine {
			return nil, fmt.Errorf("the line has more than %d bytes", maxLine)
		}
		part, err = e.lines.ReadSlice('\n')
	}
	e.long = append(e.long, part...)
	return e.long, err
}

// converter turns rows of JSON into rows of tables.
type converter struct {
	*reading
	*format
	label int                // index of the current label, plus one
	last  map[string]lastRow // of each table's identity
	cells []cell
}

// lastRow is what rates are computed from.
type lastRow struct {
	mono   int64
	values []int64
}

func (c *converter) convert(v reflect.Value) error {
	mono := cellOf(v, c.mono, integer)
	if !mono.set {
		return errors.New("no t_mono_ns")
	}
	if c.label > 0 && c.labels[c.label-1].Mono > mono.i {
		c.label = 0
	}
	for c.label < len(c.labels) && c.labels[c.label].Mono <= mono.i {
		c.label++
	}
	for i := range c.levels {
		l := &c.levels[i]
		if l.list == nil {
			if err := c.emit(l, v, mono, nil); err != nil {
				return err
			}
			continue
		}
		list := reach(v, l.list)
		if !list.IsValid() {
			continue
		}
		times := []cell{cellOf(v, c.wall, integer), mono}
		for k := range list.Len() {
			if err := c.emit(l, list.Index(k), mono, times); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *converter) emit(l *level, v reflect.Value, mono cell, times []cell) error {
	phase, class := Before, ""
	if c.label > 0 {
		phase, class = c.labels[c.label-1].Phase, c.labels[c.label-1].Class
	}
	c.cells = append(c.cells[:0], str(string(c.row.Episode)), str(string(c.row.Host)), str(c.row.Profile), str(phase), str(class))
	c.cells = append(c.cells, times...)
	first := len(c.cells)
	for _, leaf := range l.leaves {
		c.cells = append(c.cells, cellOf(v, leaf.path, leaf.kind))
	}
	ids := []string{l.table.name}
	for _, i := range l.ids {
		ids = append(ids, strconv.FormatInt(c.cells[first+i].i, 10)+" "+c.cells[first+i].s)
	}
	id := strings.Join(ids, "\x00")
	before, known := c.last[id]
	now := lastRow{mono.i, make([]int64, 0, len(l.leaves))}
	for i, leaf := range l.leaves {
		if leaf.counter < 0 {
			continue
		}
		value, rate := c.cells[first+i], cell{}
		if passed := mono.i - before.mono; known && passed > 0 && value.set {
			rate = real(float64(value.i-before.values[len(now.values)]) / (float64(passed) / 1e9))
		}
		now.values = append(now.values, value.i)
		c.cells = append(c.cells, rate)
	}
	if len(now.values) > 0 {
		c.last[id] = now
	}
	return c.out.row(l.table, c.cells)
}

// reach returns a part of a row; the zero Value if it is absent.
func reach(v reflect.Value, path []int) reflect.Value {
	for i, field := range path {
		if v = v.Field(field); i < len(path)-1 || v.Kind() == reflect.Pointer {
			if v.Kind() == reflect.Pointer {
				if v.IsNil() {
					return reflect.Value{}
				}
				v = v.Elem()
			}
		}
	}
	return v
}

func cellOf(v reflect.Value, path []int, k kind) cell {
	v = reach(v, path)
	if !v.IsValid() {
		return cell{}
	}
	switch k {
	case number:
		return real(v.Float())
	case text:
		return cell{set: true, s: v.String()}
	case boolean:
		return truth(v.Bool())
	}
	return num(v.Int())
}
