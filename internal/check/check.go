// Package check runs the checks that doctor prints, health-check ships, install uses as
// preflight and pings report. Each role has one registry.
//
// A check is a function that returns a result with evidence. Its id, title, severity and
// fix are data, so that the receiver can look up a fix by id without trusting a host's
// text. A check that panics or exceeds its timeout becomes a failure, not a crash.
package check

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"cis490/internal/fault"
	"cis490/internal/plain"
)

// Status is the outcome of a check.
type Status string

// The four outcomes.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip" // could not be checked here; not a failure
)

// Severity determines what a failure means for the machine.
type Severity string

// A failing hard check fails the machine and is reported in pings. A failing soft check is
// a warning.
const (
	Hard Severity = "hard"
	Soft Severity = "soft"
)

// Result is the outcome of a check with its evidence.
type Result struct {
	Status Status
	Detail string // evidence: what was found, and where
	Fix    string // of what was found here; empty: the check's
}

// WithFix returns the result with a fix for what was found.
func (r Result) WithFix(fix string) Result {
	r.Fix = fix
	return r
}

// Passf returns a Pass with a formatted detail.
func Passf(format string, args ...any) Result {
	return Result{Status: Pass, Detail: fmt.Sprintf(format, args...)}
}

// Warnf returns a Warn: a finding that does not stop the machine's work.
func Warnf(format string, args ...any) Result {
	return Result{Status: Warn, Detail: worded(format, args...)}
}

// Failf returns a Fail.
func Failf(format string, args ...any) Result {
	return Result{Status: Fail, Detail: worded(format, args...)}
}

// Skipf returns a Skip: the check could not run here.
func Skipf(format string, args ...any) Result {
	return Result{Status: Skip, Detail: worded(format, args...)}
}

// worded formats a detail. Its errors have their text for people.
func worded(format string, args ...any) string {
	for i, a := range args {
		if err, ok := a.(error); ok && err != nil {
			args[i] = fault.Text(err)
		}
	}
	return fmt.Sprintf(format, args...)
}

// Check is one entry of a registry.
type Check struct {
	ID       string // stable, dotted: "cert.expiry"
	Title    string
	Severity Severity
	Fix      string // the commands to run, and on which machine
	Doc      string // what it checks and why it matters, for docs/checks.md
	// Run runs the check. It must honour the context.
	Run func(context.Context) Result
	// Repair does what doctor --fix may do, and returns what it did. nil means that nothing
	// is safe to do automatically.
	Repair func(context.Context) (string, error)
}

// Row is a check's outcome in doctor's output and reports.
type Row struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"` // only with warn and fail
	TookMS int64  `json:"took_ms"`
	Hard   bool   `json:"hard"`
}

// Timeout bounds each check.
const Timeout = 10 * time.Second

// Run runs the checks concurrently and returns their rows in order.
func Run(ctx context.Context, checks []Check) []Row {
	rows := make([]Row, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { rows[i] = run(ctx, c) })
	}
	wg.Wait()
	return rows
}

func run(ctx context.Context, c Check) Row {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	done := make(chan Result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- Failf("check panicked: %v", p)
			}
		}()
		done <- c.Run(ctx)
	}()
	var r Result
	select {
	case r = <-done:
	case <-ctx.Done():
		r = Failf("no result within %s", Timeout)
	}
	// A soft check cannot fail, only warn.
	if c.Severity == Soft && r.Status == Fail {
		r.Status = Warn
	}
	row := Row{
		ID: c.ID, Title: c.Title, Status: r.Status, Detail: Sanitize(r.Detail, 500),
		TookMS: time.Since(start).Milliseconds(), Hard: c.Severity == Hard,
	}
	if r.Status == Warn || r.Status == Fail {
		row.Fix = cmp.Or(r.Fix, c.Fix)
	}
	return row
}

// Failing returns the ids of failed hard checks, as in pings.
func Failing(rows []Row) []string {
	var ids []string
	for _, r := range rows {
		if r.Status == Fail {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Sanitize makes untrusted text safe to display: one line, no hidden characters, at most limit
// characters.
func Sanitize(s string, limit int) string { return plain.Line(s, limit) }
