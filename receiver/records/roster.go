package records

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// The roster is read again after rosterEvery at the earliest, a request waits for that at most
// for rosterWait, and without the database the last one counts for rosterLasts.
const (
	rosterEvery = 200 * time.Millisecond
	rosterWait  = time.Second
	rosterLasts = time.Minute
)

// Roster returns the roster in a database. The file of a machine that stands by may be older,
// because its authority may be stopped.
func Roster(rows receiver.RecordReader) *roster.View {
	return roster.NewView(&events{rows: rows})
}

type events struct {
	rows receiver.RecordReader

	mu      sync.Mutex
	reading chan struct{} // closed at the end of the read in progress; nil: there is none
	found   []receiver.Record
	last    int64
	read    time.Time // the last read that succeeded
	err     error     // of the last read

	begun   bool // used by Read alone
	damaged int
}

// Read decodes the rows since the last call.
func (e *events) Read(begin func(), add func(roster.Event)) (damaged int, err error) {
	e.mu.Lock()
	if e.reading == nil && time.Since(e.read) >= rosterEvery {
		e.reading = make(chan struct{})
		go e.look(e.last, e.reading)
	}
	if reading := e.reading; reading != nil {
		e.mu.Unlock()
		select {
		case <-reading:
		case <-time.After(rosterWait):
		}
		e.mu.Lock()
	}
	found := e.found
	e.found = nil
	switch {
	case e.read.IsZero() && e.err != nil:
		err = e.err
	case e.last == 0:
		err = fs.ErrNotExist
	case time.Since(e.read) > rosterLasts:
		err = fmt.Errorf("the database did not answer since %s: %w", plain.Time(e.read), e.err)
	}
	e.mu.Unlock()
	if len(found) > 0 && !e.begun {
		begin()
		e.begun = true
	}
	for _, r := range found {
		var event roster.Event
		switch {
		case r.File != local.RosterFile:
		case json.Unmarshal([]byte(r.Line), &event) != nil || event.Host == "" || event.At.IsZero():
			e.damaged++
		default:
			add(event)
		}
	}
	return e.damaged, err
}

// look reads all rows after one.
func (e *events) look(last int64, done chan struct{}) {
	var found []receiver.Record
	for {
		page, err := e.rows.Since(last)
		if err != nil || len(page) == 0 {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.found, e.last, e.err = append(e.found, found...), last, err
			if err == nil {
				e.read = time.Now()
			}
			e.reading = nil
			close(done)
			return
		}
		found, last = append(found, page...), page[len(page)-1].ID
	}
}
