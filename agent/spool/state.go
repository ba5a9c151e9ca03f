package spool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

	unread error     // why the file could not be read; SaveState reads it again
	since  time.Time // of the first SaveState that could not
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
	st, err := disk.ReadState[State](fsys, statePath(dir), 16<<20)
	if err != nil {
		err = fmt.Errorf("read the shipper's state: %w", err)
		st.unread = err
	}
	return st, err
}

// SaveState replaces the state durably. A file that could not be read yet is read first, and
// what it has is added to st.
func (s *Spool) SaveState(st *State) error {
	err := s.resume(st)
	var b []byte
	if err == nil {
		b, err = json.MarshalIndent(st, "", "  ")
	}
	if err == nil {
		err = disk.ReplaceBytes(s.FS, statePath(s.Dir), 0o644, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// resume adds the state of a file that could not be read when the state was loaded.
func (s *Spool) resume(st *State) error {
	if st.unread == nil {
		return nil
	}
	old, err := LoadState(s.FS, s.Dir)
	if err != nil {
		if st.since.IsZero() {
			st.since = s.Now()
		}
		if !errors.Is(err, disk.ErrDamaged) && s.Now().Sub(st.since) < disk.UnreadFor {
			return err
		}
		if err := disk.SetAside(s.FS, statePath(s.Dir)); err != nil {
			return err
		}
	}
	if st.StoreID == "" {
		st.StoreID, st.ReconciledAt = old.StoreID, old.ReconciledAt
	}
	st.LastShipped, st.Unreached = cmp.Or(st.LastShipped, old.LastShipped), cmp.Or(st.Unreached, old.Unreached)
	holds := maps.Clone(old.Holds)
	if holds == nil {
		holds = st.Holds
	}
	maps.Copy(holds, st.Holds)
	st.Holds, st.unread = holds, nil
	return nil
}
