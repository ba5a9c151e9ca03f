package spool

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

// State is what the shipper keeps across restarts, beside the episodes themselves.
type State struct {
	StoreID      string                `json:"store_id,omitempty"` // last reconciled with
	ReconciledAt time.Time             `json:"reconciled_at,omitzero"`
	LastShipped  time.Time             `json:"last_shipped,omitzero"`
	Holds        map[ident.Commit]Hold `json:"holds,omitempty"`
	Pause        *Pause                `json:"pause,omitempty"`
	// Unreached is when the receiver last could not be reached, or accepted nothing, while
	// this host was awake. Waiting until then was not this host's fault.
	Unreached time.Time `json:"unreached,omitzero"`
}

// Hold stops sending the episodes of a commit until the receiver's policy changes.
type Hold struct {
	At     time.Time `json:"at"`
	Policy string    `json:"policy"` // that rejected the commit
	Detail string    `json:"detail"`
	Fix    string    `json:"fix"`
}

// Pause is a wait that survives a restart.
type Pause struct {
	Until   time.Time `json:"until"`
	Attempt int       `json:"attempt"`
	Action  string    `json:"action"`           // a wire.Action
	Serial  string    `json:"serial,omitempty"` // of the rejected certificate
	Detail  string    `json:"detail"`
}

func statePath(dir string) string { return filepath.Join(dir, "shipper.json") }

// LoadState reads the state. A missing file means an empty state. An unreadable one does
// too, beside the error; the cost is one more rejection per commit.
func LoadState(fsys disk.FS, dir string) (State, error) {
	var st State
	b, err := disk.ReadFile(fsys, statePath(dir), 16<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		return State{}, fmt.Errorf("read the shipper's state: %w", err)
	}
	return st, nil
}

// SaveState replaces the state durably.
func (s *Spool) SaveState(st State) error {
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := disk.ReplaceBytes(s.FS, statePath(s.Dir), 0o644, append(b, '\n')); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}
