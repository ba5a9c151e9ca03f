package check

import (
	"fmt"
	"time"
)

// Schema identifies the format of a Report, which docs/doctor.schema.json describes.
const Schema = "cis490.doctor/1"

// Report is the result of one doctor run: the output of `doctor --json`, and a host's
// health report.
type Report struct {
	Schema  string    `json:"schema"`
	Host    string    `json:"host"`
	Role    string    `json:"role"` // "lab-host" or "receiver"
	Version string    `json:"version"`
	Commit  string    `json:"commit"` // the build's commit, or empty
	At      time.Time `json:"at"`
	Summary Summary   `json:"summary"`
	Checks  []Row     `json:"checks"`
}

// MaxRows bounds the rows of a report that the receiver accepts.
const MaxRows = 500

// Check sanitizes a report from another machine: it truncates and cleans every text like
// Sanitize, and recomputes the summary. It returns an error if there are more than MaxRows
// rows or a status is invalid.
func (r *Report) Check() error {
	if len(r.Checks) > MaxRows {
		return fmt.Errorf("%d checks, want at most %d", len(r.Checks), MaxRows)
	}
	r.Schema, r.Host, r.Role = Sanitize(r.Schema, 40), Sanitize(r.Host, 100), Sanitize(r.Role, 20)
	r.Version, r.Commit = Sanitize(r.Version, 100), Sanitize(r.Commit, 64)
	for i := range r.Checks {
		row := &r.Checks[i]
		switch row.Status {
		case Pass, Warn, Fail, Skip:
		default:
			return fmt.Errorf("checks[%d].status: want pass, warn, fail or skip, got %.20q", i, row.Status)
		}
		row.ID, row.Title = Sanitize(row.ID, 64), Sanitize(row.Title, 200)
		row.Detail, row.Fix = Sanitize(row.Detail, 500), Sanitize(row.Fix, 1000)
	}
	r.Summary = Summarize(r.Checks)
	return nil
}

// Summary counts the rows by status.
type Summary struct {
	Pass int `json:"pass"`
	Warn int `json:"warn"`
	Fail int `json:"fail"`
	Skip int `json:"skip"`
}

// Summarize counts the rows by status.
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
