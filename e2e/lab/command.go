package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// commandLimit bounds every command: a command that hangs fails its scenario, with logs,
// before the timeout of the test binary.
const commandLimit = 5 * time.Minute

// A Result is the output of a command on a host. Code is its exit code, or 128 plus the
// signal's number, as in a shell.
type Result struct {
	Out, Err string
	Code     int
}

// Run runs a shell command as root inside the host and returns its standard
// output without the last newline. The test ends when the command fails.
func (h *Host) Run(command string) string {
	h.lab.tb.Helper()
	return h.RunIn("", command)
}

// RunIn is Run with text on standard input. The text never appears in logs.
func (h *Host) RunIn(stdin, command string) string {
	h.lab.tb.Helper()
	res := h.try(stdin, command)
	if res.Code != 0 {
		h.lab.tb.Fatalf("lab: run on %s: %s\n%s", h.Name, command, res)
	}
	return strings.TrimSuffix(res.Out, "\n")
}

// Try is Run for a command that may fail.
func (h *Host) Try(command string) Result {
	h.lab.tb.Helper()
	return h.try("", command)
}

// Eventually repeats a shell command until it exits with 0, and returns its standard
// output. After the limit the test ends with what and the last output.
func (h *Host) Eventually(limit time.Duration, what, command string) string {
	h.lab.tb.Helper()
	return eventually(h.lab.tb, h.Name, limit, what, command, func(ctx context.Context) (Result, error) {
		return h.command(ctx, nil, "sh", "-c", command)
	})
}

func eventually(tb testing.TB, name string, limit time.Duration, what, command string, run func(context.Context) (Result, error)) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var last Result
	err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
		res, err := run(ctx)
		if errors.Is(err, errOff) {
			return false, err
		}
		if err != nil {
			res = Result{Err: err.Error(), Code: -1}
		}
		if ctx.Err() == nil || last == (Result{}) { // an interrupted command has less output than the one before
			last = res
		}
		return res.Code == 0, nil
	})
	if err != nil {
		tb.Fatalf("lab: wait on %s: %s: %v after %v\n%s\n%s", name, what, err, limit, command, last)
	}
	return strings.TrimSuffix(last.Out, "\n")
}

// Journal returns the journal of a unit over all boots, or the whole journal for "". The
// host may be off.
func (h *Host) Journal(unit string) string {
	h.lab.tb.Helper()
	text, err := h.journal(unit)
	if err != nil {
		h.lab.tb.Fatalf("lab: read the journal of %s: %v", h.Name, err)
	}
	return text
}

func (h *Host) journal(unit string) (string, error) {
	script := `journalctl --sync 2>/dev/null; exec journalctl --quiet --no-pager --output=short-precise ${1:+--unit="$1"}`
	res, err := h.onDisk(nil, script, unit)
	return res.Out, err
}

// String shows a result in a test's log.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.Code, r.Out, r.Err)
}

func (h *Host) try(stdin, command string) Result {
	h.lab.tb.Helper()
	h.mustBeOn("run on")
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	var in io.Reader
	if stdin != "" {
		in = strings.NewReader(stdin)
	}
	res, err := h.command(ctx, in, "sh", "-c", command)
	if err != nil {
		h.lab.tb.Fatalf("lab: run on %s: %s\n%v\n%s", h.Name, command, err, res)
	}
	return res
}
