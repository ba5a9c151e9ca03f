package fleet

import (
	"maps"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/receiver"
)

// Types of package receiver.
type (
	// Alert is a row of the alerts.
	Alert = receiver.Alert
	// Key names an alert.
	Key = receiver.AlertKey
	// Held is a firing alert in an opening row.
	Held = receiver.OpenAlert
)

// The states of an alert, and the host of the receiver's own.
const (
	Firing   = receiver.Firing
	Resolved = receiver.Resolved
	opening  = receiver.Opening
	Receiver = receiver.Itself
)

// perOpening is how many alerts an opening row lists, so that the row fits into the
// ledger however long the hosts' names are.
const perOpening = 2000

// Entry is the state of one alert, by the rows so far.
type Entry struct {
	Firing   bool // by the last row
	Since    time.Time
	Began    time.Time // when its first row was written
	Quiet    bool
	fired    bool // this hour has a firing row
	resolved bool
}

// State is the state of all alerts by alerts.jsonl.
type State struct {
	Last    time.Time // of the last row
	hour    time.Time
	more    int // opening rows of the hour that are missing after a crash
	Entries map[Key]Entry
}

// ReadState returns the state by the rows of the last hour with rows or, if its opening
// rows are incomplete, by all rows.
func ReadState(alerts receiver.Log[Alert]) (State, error) {
	last, ok, err := alerts.Last()
	if err != nil || !ok {
		return State{Entries: map[Key]Entry{}}, err
	}
	s, err := readState(alerts, last.Truncate(time.Hour))
	if err == nil && s.more > 0 {
		s, err = readState(alerts, time.Time{})
	}
	s.Last = last
	return s, err
}

func readState(alerts receiver.Log[Alert], from time.Time) (State, error) {
	s := State{Entries: map[Key]Entry{}}
	for a, err := range alerts.Since(from) {
		if err != nil {
			return s, err
		}
		s.add(a)
	}
	return s, nil
}

func (s *State) add(a Alert) {
	s.startHour(a.Hour)
	switch a.State {
	case opening:
		s.more = a.More
		for _, h := range a.Open {
			s.Entries[Key{Host: h.Host, Symptom: h.Symptom}] = Entry{Firing: true, Since: h.Since, Began: h.Began, Quiet: h.Quiet}
		}
	case Firing:
		e := s.Entries[a.Key()]
		if !e.Firing {
			e.Began = a.When()
		}
		e.Firing, e.Since, e.Quiet, e.fired = true, a.Since, a.Quiet, true
		s.Entries[a.Key()] = e
	case Resolved:
		e := s.Entries[a.Key()]
		e.Firing, e.resolved = false, true
		s.Entries[a.Key()] = e
	}
}

// startHour begins an hour. It removes resolved alerts.
func (s *State) startHour(hour time.Time) {
	if s.hour.Equal(hour) {
		return
	}
	s.hour = hour
	maps.DeleteFunc(s.Entries, func(_ Key, e Entry) bool { return !e.Firing })
	for k, e := range s.Entries {
		e.fired, e.resolved = false, false
		s.Entries[k] = e
	}
}

// held returns the firing alerts.
func (s *State) held() []Held {
	var all []Held
	for k, e := range s.Entries {
		if e.Firing {
			all = append(all, Held{Host: k.Host, Symptom: k.Symptom, Since: e.Since, Began: e.Began, Quiet: e.Quiet})
		}
	}
	slices.SortFunc(all, func(a, b Held) int { return strings.Compare(a.Host+" "+a.Symptom, b.Host+" "+b.Symptom) })
	return all
}

// Next returns the rows to write for findings, and applies them to s. An alert has at most
// one firing and one resolved row in each hour, and a firing row in each hour while it
// lasts. The first rows of an hour are opening rows, so that a crash between two rows
// loses nothing.
func (s *State) Next(now time.Time, found []Finding) []Alert {
	now = now.UTC()
	hour := now.Truncate(time.Hour)
	begun := s.hour.Equal(hour) && s.more == 0
	s.startHour(hour)
	before := s.held()
	var rows []Alert
	there := map[Key]bool{}
	for _, x := range found {
		there[x.Key()] = true
		if !s.Entries[x.Key()].fired {
			rows = append(rows, alertOf(x, now))
		}
	}
	for _, h := range before {
		k := Key{Host: h.Host, Symptom: h.Symptom}
		if e := s.Entries[k]; !there[k] && !e.resolved {
			rows = append(rows, Alert{V: 1, At: now, Host: h.Host, Symptom: h.Symptom, State: Resolved, Since: h.Since, Hour: hour, Quiet: h.Quiet})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if !begun {
		rows = append(openings(now, before), rows...)
	}
	at := now
	if now.Before(s.Last) { // after it, because notify sends rows that are newer than the last
		at = s.Last.Add(1)
	}
	for i := range rows {
		if rows[i].At = at; !at.Equal(now) {
			rows[i].Clock = now
		}
		s.add(rows[i])
	}
	s.Last = at
	return rows
}

// openings returns opening rows with all firing alerts.
func openings(now time.Time, all []Held) []Alert {
	rows := []Alert{{V: 1, At: now, State: opening, Hour: now.Truncate(time.Hour)}}
	for part := range slices.Chunk(all, perOpening) {
		last := &rows[len(rows)-1]
		if len(last.Open) > 0 {
			rows = append(rows, *last)
			last = &rows[len(rows)-1]
		}
		last.Open = part
	}
	for i := range rows {
		rows[i].More = len(rows) - 1 - i
	}
	return rows
}

// alertOf returns a finding as a firing row, its text sanitized and cut.
func alertOf(x Finding, now time.Time) Alert {
	return Alert{
		V: 1, At: now, Host: x.Host, Symptom: x.Symptom, State: Firing, Since: x.Since.UTC(), Hour: now.Truncate(time.Hour),
		Detail: check.Sanitize(x.Detail, 500), Reason: check.Sanitize(x.Reason.Text, 300), Code: x.Reason.Code, Check: x.Reason.Check,
		Fix: check.Sanitize(x.Fix, maxFix), Quiet: x.Quiet, Silenced: x.Silenced,
	}
}
