package local

import (
	"encoding/json"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ledger"
	"cis490/receiver/roster"
)

// RosterFile is the roster's file name in the authority's folder. The authority writes
// it.
const RosterFile = "roster.jsonl"

// Roster returns the view of the roster in the authority's folder.
func Roster(fsys disk.FS, dir string) *roster.View {
	path := filepath.Join(dir, RosterFile)
	return roster.NewView(&events{tail: ledger.NewTail(fsys, path, at, time.Time{})})
}

type events struct {
	tail    *ledger.Tail
	damaged int // rows that are not events
}

// Read decodes the lines that the authority appended.
func (e *events) Read(begin func(), add func(roster.Event)) (damaged int, err error) {
	err = e.tail.Read(func() { e.damaged = 0; begin() }, func(row ledger.Row) {
		var event roster.Event
		if json.Unmarshal(row.Line, &event) != nil || event.Host == "" || event.At.IsZero() {
			e.damaged++
			return
		}
		add(event)
	})
	return e.damaged + e.tail.Skipped(), err
}
