// Package silences keeps which alerts nobody is to be told of: silences.jsonl in
// the receiver's data folder. serve writes it, fleet-check reads it.
//
// A silence hides an alert from those who are told, never from alerts.jsonl or
// from `alerts list`. It is durable when Add returns; a crash before that leaves
// none. The package refuses a silence without a host and a symptom: to be told of
// nothing at all is never what was meant.
package silences

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ledger"
)

// File is the name of the silences in the receiver's data folder.
const File = "silences.jsonl"

// timeKey is the time field of its rows.
const timeKey = "at"

// Key is what a silence is about.
type Key struct{ Host, Symptom string }

// Silence is a row. Of several rows for a key the last one holds.
type Silence struct {
	V       int       `json:"v"`
	At      time.Time `json:"at"`
	Host    string    `json:"host"`
	Symptom string    `json:"symptom"`
	Until   time.Time `json:"until,omitzero"` // zero: until the alert resolves
	End     bool      `json:"end,omitempty"`  // tell again from now on
	Comment string    `json:"comment,omitempty"`
	Clock   time.Time `json:"clock,omitzero"` // when it was made, where the clock was behind the row above
}

// When returns when the silence was made.
func (s Silence) When() time.Time {
	if !s.Clock.IsZero() {
		return s.Clock
	}
	return s.At
}

// Covers tells whether nobody is told of an alert that began to fire at a time.
// Without an end of its own, a silence is for the alert that was firing when it
// was made, and not for the next one.
func (s Silence) Covers(began, now time.Time) bool {
	switch {
	case s.At.IsZero() || s.End:
		return false
	case s.Until.IsZero():
		return !s.When().Before(began)
	}
	return now.Before(s.Until)
}

// Book is the writing side.
type Book struct {
	mu sync.Mutex
	l  *ledger.Ledger
}

// Open opens or creates the file.
func Open(fsys disk.FS, dataDir string, now func() time.Time) (*Book, error) {
	l, err := ledger.Open(ledger.Options{FS: fsys, Path: filepath.Join(dataDir, File), TimeKey: timeKey, Perm: 0o640, Now: now})
	if err != nil {
		return nil, err
	}
	return &Book{l: l}, nil
}

// Add makes a silence durable. V and At are filled in.
func (b *Book) Add(s Silence) (Silence, error) {
	if s.Host == "" || s.Symptom == "" {
		return Silence{}, errors.New("add silence: no host or no symptom")
	}
	s.V, s.Comment, s.Clock = 1, check.Plain(s.Comment, 200), time.Time{}
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.l.Append(func(at time.Time) any { s.At = at; return s })
	return s, err
}

// Bridge makes the silences anew that a clock made which was ahead: each was made by
// now at the latest, and lasts from now on no longer than it was meant to.
func (b *Book) Bridge(all map[Key]Silence, now time.Time) error {
	for _, s := range all {
		made := s.When()
		if !made.After(now) {
			continue
		}
		if !s.Until.IsZero() {
			s.Until = now.Add(s.Until.Sub(made))
		}
		if _, err := b.Add(s); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file.
func (b *Book) Close() error { return b.l.Close() }

// Read returns the last row of each key; no file is no silence. What is no row
// is passed over.
func Read(fsys disk.FS, dataDir string) (map[Key]Silence, error) {
	all := map[Key]Silence{}
	for row, err := range ledger.Rows(fsys, filepath.Join(dataDir, File), timeKey, time.Time{}) {
		if err != nil {
			return all, err
		}
		var s Silence
		if json.Unmarshal(row.Line, &s) == nil && s.Host != "" && s.Symptom != "" {
			all[Key{s.Host, s.Symptom}] = s
		}
	}
	return all, nil
}
