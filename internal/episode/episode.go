// Package episode is the form of an episode: the files of its directory, its
// meta.json, and the tarball it is shipped as.
//
// A directory is whole when it holds done.marker, which the recorder writes last,
// after everything else is durable; without it the directory is half an episode
// and is never shipped. A tarball is a pure function of the directory's content,
// so packing twice gives the same digest.
package episode

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// The files of an episode's directory.
const (
	MetaFile        = "meta.json"
	EventsFile      = "events.jsonl"
	LabelsFile      = "labels.jsonl"
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

// The verdicts. Only accepted and failed episodes are shipped: failed is data
// too (the phase labels say so), abandoned is half a recording.
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
	Experiment    ident.Digest    `json:"experiment_sha256"`
	Code          Code            `json:"code_version"`
	Start         time.Time       `json:"start"`
	End           time.Time       `json:"end"`
	Rows          map[string]int  `json:"rows"` // per source
	Verdict       Verdict         `json:"verdict"`
	Reason        string          `json:"reason,omitempty"` // why not accepted
	Notes         []string        `json:"notes,omitempty"`  // such as "no KVM: software emulation"
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
}

// Label is a row of labels.jsonl: from here on, this phase.
type Label struct {
	Wall  int64  `json:"t_wall_ns"`
	Mono  int64  `json:"t_mono_ns"`
	Phase string `json:"phase"`
	Event string `json:"event"` // what began it
}
