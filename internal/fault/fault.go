// Package fault gives an error the two things a person and a unit need from it:
// the fix (what to paste) and the exit code (spec §2).
//
// Layers that know the remedy attach it; only commands/report.go prints it.
// Both travel through wrapping, and errors.Is and errors.As see the cause.
package fault

import "errors"

// Exit codes, named as in sysexits(3) so that systemd prints their names. 2 is
// left to a Go panic.
const (
	Failed      = 1  // failed, or the verdict is bad
	Usage       = 64 // wrong flag, argument or subcommand
	Unavailable = 69 // the peer cannot be reached
	TempFail    = 75 // try again
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

// Fix returns err with the command or sentence that fixes it; nil stays nil.
// The outermost fix wins, as the caller knows more about what was asked.
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

// Exit returns err with an exit code; nil stays nil.
func Exit(err error, code int) error {
	if err == nil {
		return nil
	}
	return &coded{err, code}
}

// CodeOf returns the exit code of err: 0 for nil, Failed where none was given.
func CodeOf(err error) int {
	if err == nil {
		return 0
	}
	if c, ok := errors.AsType[*coded](err); ok {
		return c.code
	}
	return Failed
}
