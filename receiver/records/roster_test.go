package records_test

import (
	"errors"
	"io/fs"
	"testing"

	"cis490/receiver"
	"cis490/receiver/records"
	"cis490/receiver/roster"
)

// rows are a database in memory.
type rows struct {
	all []receiver.Record
	err error
}

func (r *rows) Since(id int64) ([]receiver.Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.all[id:], nil
}

func (r *rows) add(file, line string) {
	r.all = append(r.all, receiver.Record{ID: int64(len(r.all) + 1), File: file, Line: line})
}

// TestRoster: before the authority recorded anything, nothing is known of a host; without the
// database at the start neither.
func TestRoster(t *testing.T) {
	away := errors.New("away")
	if _, _, err := records.Roster(&rows{err: away}).Host("lab-01"); !errors.Is(err, away) {
		t.Errorf("the database is away: %v", err)
	}
	if _, _, err := records.Roster(&rows{}).Host("lab-01"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is empty: %v", err)
	}
	db := &rows{}
	db.add("trust.pem", "-----BEGIN")
	db.add("roster.jsonl", `{"at":"2026-01-01T00:00:00Z","host":"lab-01","event":"enrolled","serial":"1","expires":"2027-01-01T00:00:00Z"}`)
	db.add("roster.jsonl", "damaged")
	db.add("roster.jsonl", `{"at":"2026-01-02T00:00:00Z","host":"lab-01","event":"decommissioned"}`)
	view := records.Roster(db)
	if h, known, err := view.Host("lab-01"); err != nil || !known || h.State != roster.Gone {
		t.Errorf("%+v, %t, %v", h, known, err)
	}
	db.err = away // for less than a minute
	if h, _, err := view.Host("lab-01"); err != nil || h.State != roster.Gone {
		t.Errorf("the database went away: %+v, %v", h, err)
	}
	if n, err := view.Damaged(); n != 1 || err != nil {
		t.Errorf("%d damaged rows, %v", n, err)
	}
}
