package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"
	"golang.org/x/term"

	"cis490/internal/check"
	"cis490/internal/fault"
	"cis490/internal/plain"
)

// The program's output. Results go to standard output, everything else to standard error.
// An error is one line with what and where, in lower case and without a full stop, followed
// by a hint with the fix, if known:
//
//	cis490: error: read config: cannot open /etc/cis490/lab-host.toml: no permission
//	cis490: hint: run it again with sudo
//
// No other file chooses an exit code or prints an error.

// report prints an error and returns its exit code.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	code := fault.CodeOf(err)
	if code == fault.Failed && errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		code = fault.NoPerm
		if fault.FixOf(err) == "" {
			err = fault.Fix(err, permissionFix(toJournal()))
		}
	}
	if !errors.Is(err, errQuiet) {
		for line := range strings.Lines(pem.ReplaceAllString(fault.Text(err), "a PEM block")) {
			a.errorf("error: %s", strings.TrimSuffix(line, "\n"))
		}
	}
	for line := range strings.Lines(fault.FixOf(err)) {
		a.errorf("hint: %s", strings.TrimSuffix(line, "\n"))
	}
	return code
}

// permissionFix returns the fix for a file that this process has no permission for. A
// service runs as its own user on purpose: there the owner of the file is wrong.
func permissionFix(service bool) string {
	if service {
		return "sudo cis490 doctor   # finds files with the wrong owner"
	}
	return "run it again with sudo"
}

// errQuiet carries an exit code for a result that the command has printed already.
var errQuiet = errors.New("already reported")

// verdict ends a command whose result is a failure: exit code 1, without further output.
func verdict() error { return fault.Exit(errQuiet, fault.Failed) }

// errorf prints one line on standard error. In the journal it has the priority of an
// error (sd-daemon(3)).
func (a *app) errorf(format string, args ...any) {
	prefix := "cis490: "
	if toJournal() {
		prefix = "<3>" + prefix
	}
	_, _ = fmt.Fprintf(a.env.Err, prefix+format+"\n", args...)
}

// printf prints a part of the result. A write error does not matter.
func (a *app) printf(format string, args ...any) { _, _ = fmt.Fprintf(a.env.Out, format, args...) }

// controlf prints control sequences, which the writers would escape.
func controlf(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(plain.Below(w), format, args...)
}

// clearLine returns to the start of a terminal's line and clears it.
const clearLine = "\r\x1b[K"

// printJSON prints a result as JSON.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.env.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// terminal reports whether w is an interactive terminal, for colour and progress. It is
// false with NO_COLOR or a dumb terminal.
func (a *app) terminal(w io.Writer) bool {
	return onTerminal(w) && a.env.Getenv("NO_COLOR") == "" && a.env.Getenv("TERM") != "dumb"
}

// onTerminal reports whether a person sees what is written.
func onTerminal(w io.Writer) bool {
	f, ok := plain.Below(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// usagef returns a usage error with a hint to the command's help.
func usagef(c *cli.Context, format string, args ...any) error {
	name := "cis490"
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	return fault.Exit(fault.Fix(fmt.Errorf(format, args...), name+" --help"), fault.Usage)
}

// unknownCommand returns the usage error for an unknown subcommand.
func unknownCommand(c *cli.Context, word string, known []*cli.Command) error {
	var names []string
	for _, k := range known {
		if !k.Hidden {
			names = append(names, k.Name)
		}
	}
	return usagef(c, "unknown command %q%s", word, meant("", word, names))
}

// unknownFlag returns the usage error for an unknown flag.
func unknownFlag(c *cli.Context, word string) error {
	flags := c.App.Flags
	if c.Command != nil && len(c.Command.Flags) > 0 {
		flags = c.Command.Flags
	}
	names := []string{"help"}
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	word = strings.TrimLeft(word, "-")
	return usagef(c, "unknown flag \"--%s\"%s", check.Sanitize(word, 80), meant("--", word, names))
}

// meant returns a "did you mean" hint, or "" if no name is similar.
func meant(dashes, word string, names []string) string {
	best, at := "", 3
	for _, name := range names {
		if d := smetrics.WagnerFischer(word, name, 1, 1, 1); d < at && d < len(name) {
			best, at = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", dashes+best)
}

// requireRoot returns an error without root.
func requireRoot(what string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return fault.Exit(fault.Fix(fmt.Errorf("%s needs root", what), "run it again with sudo"), fault.NoPerm)
}
