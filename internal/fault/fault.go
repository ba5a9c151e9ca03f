// Package fault attaches to an error what a person and a service unit need from it: the fix
// (the commands to run) and the exit code.
//
// The layer that knows the remedy attaches it; only commands/report.go prints it. Both
// survive wrapping, and errors.Is and errors.As see the cause.
package fault

import "errors"

// Exit codes, named as in sysexits(3), so that systemd prints their names. A Go panic exits
// with 2.
const (
	Failed      = 1  // failed, or a check failed
	Usage       = 64 // wrong flag, argument or subcommand
	Unavailable = 69 // the server cannot be reached
	TempFail    = 75 // retry later
	NoPerm      = 77 // needs root, or the wrong owner
	Config      = 78 // configuration
)

type fixed struct {
	error
	fix string
}

func (e *fixed) Unwrap() error { return e.error }

type coded struct {
	error
	code int
}

func (e *coded) Unwrap() error { return e.error }

// Fix returns err with the command or sentence that fixes it, or nil for nil. The outermost
// fix wins, because the caller knows more about the operation.
func Fix(err error, fix string) error {
	if err == nil {
		return nil
	}
	return &fixed{err, fix}
}

// FixOf returns the fix of err, or "".
func FixOf(err error) string {
	if f, ok := errors.AsType[*fixed](err); ok {
		return f.fix
	}
	return ""
}

// Exit returns err with an exit code, or nil for nil.
func Exit(err error, code int) error {
	if err == nil {
		return nil
	}
	return &coded{err, code}
}

// CodeOf returns the exit code of err: 0 for nil, Failed if none is attached.
func CodeOf(err error) int {
	if err == nil {
		return 0
	}
	if c, ok := errors.AsType[*coded](err); ok {
		return c.code
	}
	return Failed
}
