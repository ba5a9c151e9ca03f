package check

import (
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
