package episode

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Fault is one thing wrong with an episode.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 0: the file as a whole
	Why  string `json:"why"`
}

// String returns the fault as file:line: why.
func (f Fault) String() string {
	if f.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Why)
	}
	return f.File + ": " + f.Why
}

const (
	// maxRow bounds one line, in bytes: a row of thousands of processes fits.
	maxRow = 16 << 20
	// maxFaults bounds the faults that are listed; the rest is counted.
	maxFaults = 50
	// A silence of a source longer than gapPeriods periods and gapLeast is a gap; at least
	// the share fillLeast of the due rows must exist.
	gapPeriods = 10
	gapLeast   = time.Second
	fillLeast  = 0.8
	// maxEvents bounds the events that are kept in memory, far above what is recorded.
	maxEvents = 200_000
	// clockSlack is how far wall and monotonic clock may drift apart between rows; a larger
	// difference must be in meta.json as a step.
	clockSlack = 250 * time.Millisecond
)

// Verify reads an episode's directory as a data user would and returns everything that is
// wrong: files that are missing or do not decode, clocks that go back, rows that meta.json
// does not count, gaps that the rate does not allow, labels that no event explains, sources
// that stopped without a reason.
func Verify(fsys fs.FS) (Meta, []Fault) {
	v := verifier{fsys: fsys}
	if f, err := fsys.Open(DoneMarker); err != nil {
		v.fault(DoneMarker, 0, "missing: this is half an episode")
	} else {
		_ = f.Close() // only its existence matters
	}
	if !v.meta() {
		return v.m, v.faults
	}
	v.events()
	v.labels()
	v.telemetry()
	if more := v.more; more > 0 {
		v.faults = append(v.faults, Fault{File: MetaFile, Why: fmt.Sprintf("and %d more faults in this episode", more)})
	}
	return v.m, v.faults
}

type verifier struct {
	fsys   fs.FS
	m      Meta
	all    []Event
	faults []Fault
	more   int
	offset int64 // of the wall clock over the monotonic one, at the first row seen
}

func (v *verifier) fault(file string, line int, format string, args ...any) {
	if len(v.faults) >= maxFaults {
		v.more++
		return
	}
	v.faults = append(v.faults, Fault{file, line, fmt.Sprintf(format, args...)})
}

// meta checks meta.json and reports whether the rest can be checked.
func (v *verifier) meta() bool {
	f, err := v.fsys.Open(MetaFile)
	if err == nil {
		var b []byte
		b, err = io.ReadAll(io.LimitReader(f, maxMeta)) // a truncated one does not decode
		err = errors.Join(err, f.Close())
		if err == nil {
			err = json.Unmarshal(b, &v.m)
		}
	}
	if err != nil {
		v.fault(MetaFile, 0, "%v", err)
		return false
	}
	m := v.m
	want := func(ok bool, format string, args ...any) {
		if !ok {
			v.fault(MetaFile, 0, format, args...)
		}
	}
	want(m.SchemaVersion == MetaSchema, "schema_version %d, want %d", m.SchemaVersion, MetaSchema)
	want(m.Episode != "", "no episode")
	want(m.Host != "", "no host")
	want(m.Profile != "", "no profile")
	want(m.Experiment != "", "no experiment_sha256")
	want(m.Code.Commit != "", "no code_version.commit")
	want(m.Verdict == Accepted || m.Verdict == Failed, "verdict %q, want %q or %q", m.Verdict, Accepted, Failed)
	want((m.Verdict == Failed) == (m.Reason != ""), "verdict %q with the reason %q", m.Verdict, m.Reason)
	want(!m.Start.IsZero(), "no start")
	want(!m.End.Before(m.Start) || m.ClockStepMS != 0, "end %s is before start %s", m.End, m.Start)
	want(len(m.Rows) > 0, "no rows of any source")
	return true
}

func (v *verifier) events() {
	last := int64(-1)
	eachRow(v, EventsFile, func(line int, e Event) {
		v.clocks(EventsFile, line, e.Wall, e.Mono)
		if e.Mono < last {
			v.fault(EventsFile, line, "t_mono_ns %d is before the %d of the row above", e.Mono, last)
		}
		last = e.Mono
		if e.Source == "" || e.Event == "" {
			v.fault(EventsFile, line, "no source or no event")
		}
		if len(v.all) < maxEvents {
			v.all = append(v.all, e)
		} else if len(v.all) == maxEvents {
			v.fault(EventsFile, line, "more than %d events", maxEvents)
		}
	})
}

func (v *verifier) labels() {
	var last Label
	n := 0
	eachRow(v, LabelsFile, func(line int, l Label) {
		n++
		v.clocks(LabelsFile, line, l.Wall, l.Mono)
		switch {
		case n == 1 && l.Event != "start":
			v.fault(LabelsFile, line, "the first label begins by %q, want \"start\"", l.Event)
		case n > 1 && l.Mono < last.Mono:
			v.fault(LabelsFile, line, "t_mono_ns %d is before the %d of the row above", l.Mono, last.Mono)
		case n > 1 && l.Phase == last.Phase:
			v.fault(LabelsFile, line, "phase %q begins a second time", l.Phase)
		case last.Phase == labelFailed:
			v.fault(LabelsFile, line, "a label after %q", labelFailed)
		}
		if !v.explained(l) {
			v.fault(LabelsFile, line, "no event %q at its time began phase %q", l.Event, l.Phase)
		}
		last = l
	})
	if n == 0 {
		v.fault(LabelsFile, 0, "no labels")
	}
	if failed := last.Phase == labelFailed; n > 0 && failed != (v.m.Verdict == Failed) {
		v.fault(LabelsFile, 0, "the last label is %q, the verdict %q", last.Phase, v.m.Verdict)
	}
	began := 0
	for _, e := range v.all {
		if e.Use == UseBegan || e.Use == UseFailed {
			began++
		}
	}
	if began != n {
		v.fault(LabelsFile, 0, "%d labels, but %d events that began one", n, began)
	}
}

// labelFailed is the phase that a failed episode ends in.
const labelFailed = "failed"

// explained reports whether an event at the label's own time began it.
func (v *verifier) explained(l Label) bool {
	use := UseBegan
	if l.Phase == labelFailed {
		use = UseFailed
	}
	for _, e := range v.all {
		if e.Mono == l.Mono && e.Event == l.Event && e.Use == use {
			return true
		}
	}
	return false
}

func (v *verifier) telemetry() {
	files, err := fs.Glob(v.fsys, TelemetryPrefix+"*.jsonl")
	if err != nil {
		v.fault(MetaFile, 0, "%v", err)
	}
	for _, file := range files {
		source := strings.TrimSuffix(strings.TrimPrefix(file, TelemetryPrefix), ".jsonl")
		if _, ok := v.m.Rows[source]; !ok {
			v.fault(file, 0, "%s counts no rows of %q", MetaFile, source)
		}
	}
	for source, want := range v.m.Rows {
		v.source(source, want)
	}
}

func (v *verifier) source(source string, want int) {
	file := TelemetryFile(source)
	hz := v.m.Sampling[source].Hz
	if hz <= 0 {
		v.fault(MetaFile, 0, "no sampling rate of %q", source)
		return
	}
	period := time.Duration(float64(time.Second) / hz)
	n, first, last := 0, int64(0), int64(-1)
	type row struct {
		Wall   int64  `json:"t_wall_ns"`
		Mono   int64  `json:"t_mono_ns"`
		Source string `json:"source"`
	}
	eachRow(v, file, func(line int, r row) {
		v.clocks(file, line, r.Wall, r.Mono)
		if r.Source != source {
			v.fault(file, line, "source %q, want %q", r.Source, source)
		}
		if n++; n == 1 {
			first = r.Mono
		} else if gap := time.Duration(r.Mono - last); gap <= 0 {
			v.fault(file, line, "t_mono_ns %d is not after the %d of the row above", r.Mono, last)
		} else if gap > max(gapPeriods*period, gapLeast) {
			v.fault(file, line, "a gap of %s at %g Hz", gap.Round(time.Millisecond), hz)
		}
		last = r.Mono
	})
	if n != want {
		v.fault(file, 0, "%d rows, but %s counts %d", n, MetaFile, want)
	}
	if due := float64(last-first)/float64(period) + 1; n > 0 && float64(n) < fillLeast*due {
		v.fault(file, 0, "%d rows where %.0f were due at %g Hz", n, due, hz)
	}
	v.lifecycle(file, source, n)
}

// lifecycle requires an event that explains each source's rows, or their absence.
func (v *verifier) lifecycle(file, source string, n int) {
	seen := map[string]bool{}
	for _, e := range v.all {
		if e.Source == source {
			seen[e.Event] = true
		}
	}
	needed := []string{"started", "unavailable", "finished"}
	if n > 0 {
		needed[1] = "first_row"
	}
	for _, event := range needed {
		if !seen[event] {
			v.fault(file, 0, "%d rows, but no event %q of %q in %s", n, event, source, EventsFile)
		}
	}
}

// clocks requires both clocks to advance together.
func (v *verifier) clocks(file string, line int, wall, mono int64) {
	if wall <= 0 || mono < 0 {
		v.fault(file, line, "t_wall_ns %d, t_mono_ns %d: not set, or before the origin", wall, mono)
		return
	}
	if v.offset == 0 {
		v.offset = wall - mono
	}
	if apart := time.Duration(wall - mono - v.offset); apart.Abs() > clockSlack && v.m.ClockStepMS == 0 {
		v.fault(file, line, "wall and monotonic clock differ by %s, but %s has no clock step", apart.Round(time.Millisecond), MetaFile)
	}
}

// eachRow decodes the rows of a file one by one.
func eachRow[T any](v *verifier, file string, each func(line int, row T)) {
	f, err := v.fsys.Open(file)
	if err != nil {
		v.fault(file, 0, "missing or not readable: %v", errors.Unwrap(err))
		return
	}
	defer func() { _ = f.Close() }() // only read
	rowsOf(f, each, func(line int, format string, args ...any) { v.fault(file, line, format, args...) })
}

// rowsOf calls each for every row of a file, or wrong for a line that does not decode.
func rowsOf[T any](f io.Reader, each func(line int, row T), wrong func(line int, format string, args ...any)) {
	r := bufio.NewReader(f)
	for line := 1; ; line++ {
		b, err := readRow(r)
		if errors.Is(err, io.EOF) && len(b) == 0 {
			return
		}
		if err != nil {
			wrong(line, "the line does not end: %v", err)
			return
		}
		var row T
		if err := json.Unmarshal(b, &row); err != nil {
			wrong(line, "%v", err)
			continue
		}
		each(line, row)
	}
}

func readRow(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		case len(line) > maxRow:
			return nil, fmt.Errorf("over %d bytes", maxRow)
		}
	}
}
