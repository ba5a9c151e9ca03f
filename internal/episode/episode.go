// Package episode defines the format of an episode: the files of its directory, its
// meta.json, and the tarball it is shipped as.
//
// A directory is complete when it holds done.marker, which the recorder writes last, after
// everything else is durable; without it the directory is half an episode and is never
// shipped. A tarball is a pure function of the directory's content, so packing twice gives
// the same digest.
package episode

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/wire"
)

// The files of an episode's directory.
const (
	MetaFile        = "meta.json"
	EventsFile      = "events.jsonl"
	LabelsFile      = "labels.jsonl"
	ExperimentFile  = "experiment.toml" // what the recorder was given, for the profile's command
	DoneMarker      = "done.marker"
	TelemetryPrefix = "telemetry-" // + source + ".jsonl"
)

// TelemetryFile names the rows of one source.
func TelemetryFile(source string) string { return TelemetryPrefix + source + ".jsonl" }

// MetaSchema is the version of meta.json.
const MetaSchema = 1

// maxMeta bounds meta.json in bytes.
const maxMeta = 1 << 20

// Verdict says how a recording ended.
type Verdict string

// The verdicts. Only accepted and failed episodes are shipped: a failed one is data too
// (its phase labels say so), an abandoned one is half a recording.
const (
	Accepted  Verdict = "accepted"
	Failed    Verdict = "failed"
	Abandoned Verdict = "abandoned"
)

// Code says which build recorded.
type Code struct {
	Version string       `json:"version"`
	Commit  ident.Commit `json:"commit,omitempty"`
	Dirty   bool         `json:"dirty"`
}

// Meta is meta.json.
type Meta struct {
	SchemaVersion int             `json:"schema_version"`
	Episode       ident.EpisodeID `json:"episode"`
	Host          ident.Host      `json:"host"`
	Profile       string          `json:"profile"`
	Counter       uint64          `json:"counter"` // of this host, across slots
	Slot          int             `json:"slot"`
	Class         string          `json:"class,omitempty"` // the profile's
	Experiment    ident.Digest    `json:"experiment_sha256"`
	Inputs        []Input         `json:"inputs,omitempty"`
	Code          Code            `json:"code_version"`
	Start         time.Time       `json:"start"`
	End           time.Time       `json:"end"`
	Rows          map[string]int  `json:"rows"` // per source
	// Sampling is the accuracy of each source's rate.
	Sampling map[string]Sampling `json:"sampling,omitempty"`
	Load     Load                `json:"load"`
	// Machine is the recording host; Clock its clock's state at the start. Both are nil in
	// episodes of older versions, and Clock where the state is unknown.
	Machine *wire.Hardware `json:"machine,omitempty"`
	Clock   *machine.Clock `json:"clock,omitempty"`
	// ClockStepMS is how far the wall clock was stepped during the recording; 0 if it ran
	// with the monotonic one.
	ClockStepMS int64    `json:"clock_step_ms,omitempty"`
	Verdict     Verdict  `json:"verdict"`
	Reason      string   `json:"reason,omitempty"` // why not accepted
	Notes       []string `json:"notes,omitempty"`  // such as "no KVM: software emulation"
}

// Input is a file that the profile's command line names: a program, script, kernel or disk.
type Input struct {
	Path   string       `json:"path"`
	Bytes  int64        `json:"bytes"`
	Digest ident.Digest `json:"sha256,omitempty"` // "": too large to hash
}

// Sampling is the accuracy of one source's rate. Jitter is the delay between a sample's due
// time and its start.
type Sampling struct {
	Hz          float64 `json:"hz"`
	Missed      int     `json:"missed"` // due times that passed without a sample
	JitterP50US int64   `json:"jitter_p50_us"`
	JitterP99US int64   `json:"jitter_p99_us"`
	JitterMaxUS int64   `json:"jitter_max_us"`
}

// Load is the load of the whole machine during the recording.
type Load struct {
	Cores int     `json:"cores"`
	Busy  float64 `json:"busy"`  // share of all cores' time, 0 to 1
	Load1 float64 `json:"load1"` // at the end
	Slots int     `json:"slots"` // episodes recorded at the same time, at most
}

// ReadMeta reads the meta.json of an episode's directory.
func ReadMeta(fsys disk.FS, dir string) (Meta, error) {
	var m Meta
	b, err := disk.ReadFile(fsys, filepath.Join(dir, MetaFile), maxMeta)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("read %s: %w", filepath.Join(dir, MetaFile), err)
	}
	return m, nil
}

// Event is a row of events.jsonl: what a workload or a collector reported.
type Event struct {
	Wall   int64  `json:"t_wall_ns"`
	Mono   int64  `json:"t_mono_ns"` // since the episode's origin
	Source string `json:"source"`
	Event  string `json:"event"`
	Detail string `json:"detail,omitempty"`
	// Use is how a workload's event was used.
	Use Use `json:"use,omitempty"`
}

// Use is how an event was used.
type Use string

// How events are used.
const (
	UseBegan   Use = "began"   // a phase, at the event's own time
	UseEnded   Use = "ended"   // the last phase
	UseFailed  Use = "failed"  // the episode
	UseDoubled Use = "doubled" // its phase is the current one already: ignored
	UseEarly   Use = "early"   // a phase before its own has not begun: ignored
	UseLate    Use = "late"    // its phase is over, or the recording is: ignored
	UseNote    Use = "note"    // begins no phase of this profile: kept for the reader
)

// Label is a row of labels.jsonl: from here on, the phase is Phase.
type Label struct {
	Wall  int64  `json:"t_wall_ns"`
	Mono  int64  `json:"t_mono_ns"`
	Phase string `json:"phase"`
	Class string `json:"class,omitempty"`
	Event string `json:"event"` // what began it
}
