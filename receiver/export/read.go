package export

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/receiver/catalogue"
)

// Bounds of a row of JSON, in bytes, and of the labels of an episode.
const (
	maxLine   = 16 << 20
	maxLabels = 10_000
)

// sink takes the rows of an episode.
type sink interface {
	row(t *table, cells []cell) error
}

// reader reads episodes. It keeps its buffers between them, and is for one goroutine.
type reader struct {
	formats formats
	inspect *episode.Inspector
	buffer  buffer
	decoder decoder
	lines   *bufio.Reader
	long    []byte
	cells   []cell // of a row
}

func newReader(limits episode.Limits) (*reader, error) {
	inspect, err := episode.NewInspector(limits)
	if err != nil {
		return nil, err
	}
	return &reader{
		formats: allFormats(), inspect: inspect, buffer: buffer{cells: map[*table][]cell{}}, lines: bufio.NewReaderSize(nil, 256<<10),
	}, nil
}

// reading is an episode that is being read.
type reading struct {
	*reader
	row    catalogue.Row
	out    sink
	meta   *episode.Meta
	labels []episode.Label
	phases [][2]cell // phase and class before the first label, and from each label on
	names  [3]cell   // that begin every row
	counts map[string]int
	events []byte // until the labels are known
	// experiment is the experiment file, if the episode has it.
	experiment []byte
}

// checked is a tarball. Its end is an error if it is not the one that was catalogued: a
// receiver may answer differently each time.
type checked struct {
	io.Reader
	sum  hash.Hash
	want ident.Digest
}

func newChecked(tarball io.Reader, r catalogue.Row) *checked {
	return &checked{tarball, sha256.New(), r.Digest}
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	_, _ = c.sum.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) {
		if got := ident.Digest(hex.EncodeToString(c.sum.Sum(nil))); got != c.want {
			err = fmt.Errorf("the tarball's SHA-256 is %s, not %s", got, c.want)
		}
	}
	return n, err
}

// rest reads a tarball to its end.
func (c *checked) rest() error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// read reads a tarball and hands its rows to a sink. It returns an error if the tarball is not
// the one that was catalogued, if it is over the limits, or if its rows are not those that its
// meta.json counts; rows that the sink was given are void then.
func (r *reader) read(tarball io.Reader, row catalogue.Row, out sink) (*reading, error) {
	c := newChecked(tarball, row)
	e := &reading{
		reader: r, row: row, out: out, counts: map[string]int{}, phases: [][2]cell{{str(Before)}},
		names: [3]cell{str(string(row.Episode)), str(string(row.Host)), str(row.Profile)},
	}
	if err := r.inspect.Inspect(c, row.Episode, e.file); err != nil {
		return nil, err
	}
	if err := c.rest(); err != nil {
		return nil, err
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
		} else if n >= maxLabels {
			return fmt.Errorf("%s has more than %d labels", episode.LabelsFile, maxLabels)
		}
		e.labels, e.phases = append(e.labels, l), append(e.phases, [2]cell{str(l.Phase), str(l.Class)})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", episode.LabelsFile, err)
	}
	return e.rows(episode.LabelsFile, e.formats[episode.LabelsFile], bytes.NewReader(b))
}

// rows reads the rows of a file.
func (e *reading) rows(name string, f *format, content io.Reader) error {
	e.lines.Reset(content)
	e.decoder.begin(f)
	c := converter{reading: e, format: f, last: map[string]*lastRow{}}
	for n := 1; ; n++ {
		line, err := e.line()
		if errors.Is(err, io.EOF) && len(line) == 0 {
			e.counts[name] = n - 1
			return nil
		}
		if err == nil {
			if err = e.decoder.row(line); err == nil {
				err = c.convert()
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
