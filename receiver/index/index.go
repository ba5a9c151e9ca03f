// Package index is index.jsonl: one row for each episode that the receiver
// took, in the order in which it took them (spec §4).
//
// A row is appended after its tarball and the tarball's name are durable, so a
// crash leaves a file without a row, never a row without a file; package store
// repairs the former. Nothing of the index is held in memory: a million rows
// cost as much as one. It is the truth about when; which digest an episode has
// is asked of the store.
package index

import (
	"encoding/json"
	"iter"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/ledger"
)

// File is the index's name in the receiver's data folder.
const File = "index.jsonl"

// TimeKey is the time field of its rows: append time, never decreasing.
const TimeKey = "received_at"

// version of the rows.
const version = 1

// Row is one line of the index.
type Row struct {
	V          int             `json:"v"`
	ReceivedAt time.Time       `json:"received_at"`
	Host       ident.Host      `json:"host"`
	Episode    ident.EpisodeID `json:"episode"`
	Digest     ident.Digest    `json:"sha256"`
	Size       int64           `json:"size"`             // bytes
	Commit     ident.Commit    `json:"commit,omitempty"` // empty only where a repair could not find it
	Repaired   bool            `json:"repaired,omitempty"`
	Archived   bool            `json:"archived,omitempty"`
	Clock      time.Time       `json:"clock,omitzero"` // what the clock said, where it was behind the row above
}

// When returns when the row was written, which is before ReceivedAt where the clock was
// behind the row above.
func (r Row) When() time.Time {
	if !r.Clock.IsZero() {
		return r.Clock
	}
	return r.ReceivedAt
}

// Key names the episode of a row.
type Key struct {
	Host    ident.Host
	Episode ident.EpisodeID
}

// Key returns which episode the row is of.
func (r Row) Key() Key { return Key{r.Host, r.Episode} }

// Index is the open index; serve is its only writer.
type Index struct {
	fs   disk.FS
	path string
	l    *ledger.Ledger
}

// Open opens or creates the index in the data folder.
func Open(fsys disk.FS, dataDir string, now func() time.Time) (*Index, error) {
	path := filepath.Join(dataDir, File)
	l, err := ledger.Open(ledger.Options{FS: fsys, Path: path, TimeKey: TimeKey, Perm: 0o640, Now: now})
	if err != nil {
		return nil, err
	}
	return &Index{fsys, path, l}, nil
}

// Append writes the row durably and returns it with the time it got.
func (x *Index) Append(r Row) (Row, error) {
	err := x.l.Append(func(at time.Time) any {
		r.V, r.ReceivedAt, r.Clock = version, at, time.Time{}
		return r
	})
	return r, err
}

// AppendAll writes the rows durably, all of them or none, and notes in each the
// time it got.
func (x *Index) AppendAll(rows []Row) error {
	build := make([]func(time.Time) any, len(rows))
	for i := range rows {
		build[i] = func(at time.Time) any {
			rows[i].V, rows[i].ReceivedAt, rows[i].Clock = version, at, time.Time{}
			return rows[i]
		}
	}
	return x.l.AppendAll(build)
}

// Find returns those of the wanted episodes that have a row received at from or
// later.
func (x *Index) Find(from time.Time, want map[Key]bool) (map[Key]bool, error) {
	found := map[Key]bool{}
	for r, err := range Rows(x.fs, filepath.Dir(x.path), from) {
		if err != nil {
			return nil, err
		}
		if want[r.Key()] {
			found[r.Key()] = true
		}
	}
	return found, nil
}

// Healthy tells whether the next Append can be expected to work.
func (x *Index) Healthy() error { return x.l.Healthy() }

// Close closes the index.
func (x *Index) Close() error { return x.l.Close() }

// Rows yields the rows received at from or later, oldest first, for any
// process; rows before are not read, and what is no row is passed over (doctor
// counts it). After an error the sequence ends.
func Rows(fsys disk.FS, dataDir string, from time.Time) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for line, err := range ledger.Rows(fsys, filepath.Join(dataDir, File), TimeKey, from) {
			var r Row
			if err == nil && (json.Unmarshal(line.Line, &r) != nil || r.Host == "" || r.Episode == "") {
				continue // one damaged row must not hide the others, nor keep serve from starting
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}
