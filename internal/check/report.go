package check

import (
	"fmt"
	"time"
)

// Schema names the form of a Report; docs/doctor.schema.json describes it.
const Schema = "cis490.doctor/1"

// Report is one doctor run: what `doctor --json` prints and a snapshot holds.
type Report struct {
	Schema  string    `json:"schema"`
	Host    string    `json:"host"`
	Role    string    `json:"role"` // "lab-host" or "receiver"
	Version string    `json:"version"`
	Commit  string    `json:"commit"` // of the build; empty where it has none
	At      time.Time `json:"at"`
	Summary Summary   `json:"summary"`
	Checks  []Row     `json:"checks"`
}

// MaxRows bounds the rows of a report that a receiver takes.
const MaxRows = 500

// Check makes a report from elsewhere fit to keep: it cuts and cleans every text, as
// Plain does, and counts the summary anew. It returns an error if there are more than
// MaxRows rows, or if a row has a status that is none.
func (r *Report) Check() error {
	if len(r.Checks) > MaxRows {
		return fmt.Errorf("%d checks, want at most %d", len(r.Checks), MaxRows)
	}
	r.Schema, r.Host, r.Role = Plain(r.Schema, 40), Plain(r.Host, 100), Plain(r.Role, 20)
	r.Version, r.Commit = Plain(r.Version, 100), Plain(r.Commit, 64)
	for i := range r.Checks {
		row := &r.Checks[i]
		switch row.Status {
		case Pass, Warn, Fail, Skip:
		default:
			return fmt.Errorf("checks[%d].status: want pass, warn, fail or skip, got %.20q", i, row.Status)
		}
		row.ID, row.Title = Plain(row.ID, 64), Plain(row.Title, 200)
		row.Detail, row.Fix = Plain(row.Detail, 500), Plain(row.Fix, 1000)
	}
	r.Summary = Summarize(r.Checks)
	return nil
}

// Summary is how many rows have each status.
type Summary struct {
	Pass int `json:"pass"`
	Warn int `json:"warn"`
	Fail int `json:"fail"`
	Skip int `json:"skip"`
}

// Summarize counts rows by status.
func Summarize(rows []Row) Summary {
	var s Summary
	for _, r := range rows {
		switch r.Status {
		case Pass:
			s.Pass++
		case Warn:
			s.Warn++
		case Fail:
			s.Fail++
		case Skip:
			s.Skip++
		}
	}
	return s
}
