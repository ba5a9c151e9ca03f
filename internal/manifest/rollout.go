package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// Stage is the progress of a release.
type Stage string

// The stages, in order. A withdrawn release is offered to no host.
const (
	StageReceiver  Stage = "receiver" // the receiver itself
	StageCanary    Stage = "canary"   // one host
	StageQuarter   Stage = "quarter"  // one host in four
	StageAll       Stage = "all"
	StageWithdrawn Stage = "withdrawn"
)

// Progress is a release's stage, with the reason.
type Progress struct {
	Seq      uint64       `json:"seq"`
	Version  string       `json:"version"`
	Commit   ident.Commit `json:"commit"`
	Stage    Stage        `json:"stage"`
	Since    time.Time    `json:"since"`
	Reason   string       `json:"reason,omitempty"`
	Canaries []ident.Host `json:"canaries,omitempty"` // more than one only if the first stopped pinging
	// Clean and RolledBack are the hosts whose trial ended, as reported in their pings.
	Clean      []ident.Host `json:"clean,omitempty"`
	RolledBack []ident.Host `json:"rolled_back,omitempty"`
	Blocked    bool         `json:"blocked,omitempty"` // the gate rejects its commit
	// Ordered is the time of the last order that was carried out.
	Ordered time.Time `json:"ordered,omitzero"`
}

// Rollout is rollout.json, the progress of all releases. serve writes it.
type Rollout struct {
	V        int         `json:"v"`
	Releases []*Progress `json:"releases"` // newest seq first
}

// MaxRollout bounds rollout.json, in bytes; it names every host for every release.
const MaxRollout = 64 << 20

// RolloutPath returns the file in the folder of releases.
func RolloutPath(dir string) string { return filepath.Join(dir, "rollout.json") }

// ReadRollout reads rollout.json; a missing file is an empty rollout.
func ReadRollout(fsys disk.FS, dir string) (Rollout, error) {
	b, err := disk.ReadFile(fsys, RolloutPath(dir), MaxRollout)
	if errors.Is(err, fs.ErrNotExist) {
		return Rollout{V: 1}, nil
	}
	var r Rollout
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return Rollout{V: 1}, fmt.Errorf("read %s: %w", RolloutPath(dir), err)
	}
	return r, nil
}

// Of returns the progress of a release, or nil.
func (r Rollout) Of(seq uint64) *Progress {
	for _, p := range r.Releases {
		if p.Seq == seq {
			return p
		}
	}
	return nil
}

// Best returns the release for a new machine: the newest at StageAll, else the newest that
// is not withdrawn.
func Best(fsys disk.FS, dir string) (Published, bool, error) {
	all, err := List(fsys, dir)
	if err != nil {
		return Published{}, false, err
	}
	rollout, err := ReadRollout(fsys, dir)
	if err != nil {
		return Published{}, false, err
	}
	var best *Published
	for i, p := range all {
		progress := rollout.Of(p.Manifest.Seq)
		if progress != nil && progress.Stage == StageAll {
			return p, true, nil
		}
		if best == nil && (progress == nil || progress.Stage != StageWithdrawn) {
			best = &all[i]
		}
	}
	if best == nil {
		return Published{}, false, nil
	}
	return *best, true, nil
}
