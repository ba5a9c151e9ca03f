// Package check runs the checks that doctor prints, health-check ships, install
// uses as preflight and ping reports: one registry per role, many mouths (spec
// §7).
//
// A check is a function from a context to a result with evidence; its id,
// title, severity and fix are data, so that the receiver can name the fix by id
// without trusting a host's text. A check that panics or outlives its timeout
// is a finding, never a crash.
package check

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cis490/internal/plain"
)

// Status is a check's verdict.
type Status string

// The four verdicts.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip" // could not be judged here, which is no fault
)

// Severity tells whether a failure keeps the machine from its work.
type Severity string

// A failing hard check fails the machine and is told in each ping; a failing
// soft one warns.
const (
	Hard Severity = "hard"
	Soft Severity = "soft"
)

// Result is what a check found.
type Result struct {
	Status Status
	Detail string // evidence: what was seen, where
}

// Passf returns that all is well, with what was seen.
func Passf(format string, args ...any) Result { return Result{Pass, fmt.Sprintf(format, args...)} }

// Warnf returns a finding that does not keep the machine from its work.
func Warnf(format string, args ...any) Result { return Result{Warn, fmt.Sprintf(format, args...)} }

// Failf returns a failure.
func Failf(format string, args ...any) Result { return Result{Fail, fmt.Sprintf(format, args...)} }

// Skipf returns that the check could not be judged here.
func Skipf(format string, args ...any) Result { return Result{Skip, fmt.Sprintf(format, args...)} }

// Check is one entry of a registry.
type Check struct {
	ID       string // stable, dotted: "cert.expiry"
	Title    string
	Severity Severity
	Fix      string // what to paste, and on which machine
	Doc      string // what it looks at and why that matters, for docs/checks.md
	// Run judges; it must honour the context.
	Run func(context.Context) Result
	// Repair does what doctor --fix may do, and says what it did; nil is
	// nothing that is safe to do unasked.
	Repair func(context.Context) (string, error)
}

// Row is one check's outcome as doctor prints and ships it.
type Row struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"` // only beside warn and fail
	TookMS int64  `json:"took_ms"`
	Hard   bool   `json:"hard"`
}

// Timeout bounds each check.
const Timeout = 10 * time.Second

// Run runs the checks side by side and returns their rows in order.
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
		r = Failf("no verdict within %s", Timeout)
	}
	// A soft check has no failures, only warnings.
	if c.Severity == Soft && r.Status == Fail {
		r.Status = Warn
	}
	row := Row{ID: c.ID, Title: c.Title, Status: r.Status, Detail: Plain(r.Detail, 500), TookMS: time.Since(start).Milliseconds(), Hard: c.Severity == Hard}
	if r.Status == Warn || r.Status == Fail {
		row.Fix = c.Fix
	}
	return row
}

// Failing returns the ids of failing hard checks, as pings carry them.
func Failing(rows []Row) []string {
	var ids []string
	for _, r := range rows {
		if r.Status == Fail {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Plain makes text from elsewhere harmless to show: one line, no hidden characters,
// at most limit characters.
func Plain(s string, limit int) string { return plain.Line(s, limit) }
