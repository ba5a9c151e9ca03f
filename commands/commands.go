// Package commands is the command line: each subcommand is a file that turns flags and
// config into a call and its result into text. It is the only place where agent, receiver
// and install meet, and contains none of their logic.
package commands

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/plain"
	"cis490/internal/version"
)

// Env is the program's environment.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Build    version.Info
	Etc      string // folder of the config files; empty: /etc/cis490
}

// Main runs the program and returns its exit code. The context ends when the program is
// asked to stop. A command may still be running when Main returns, so the caller must exit.
// Output has no hidden characters, and errors and logs contain no secrets.
func Main(ctx context.Context, args []string, env Env) int {
	env.Out, env.Err = plain.NewWriter(env.Out), maskWriter{plain.NewWriter(env.Err)}
	a := &app{env: env, patient: new(atomic.Bool)}
	return a.interruptible(ctx, func() int { return a.report(a.cli().RunContext(ctx, args)) })
}

// app is a run of the program.
type app struct {
	env     Env
	patient *atomic.Bool // set by stopsItself; copies of app share it
	lines   int          // of the terminal, for a view that is printed later; 0: env.Out's
	columns int
}

// cli builds the command tree.
func (a *app) cli() *cli.App {
	c := &cli.App{
		Name:  "cis490",
		Usage: "record, ship and collect behaviour episodes with a fleet that heals itself",
		Description: "cis490 demo                                    run the whole system on this machine, without root\n" +
			"sudo cis490 install receiver --public-url URL  make this machine the receiver\n" +
			"sudo cis490 install lab-host --join -          make this machine a lab host",
		Version:               a.env.Build.Version,
		HideVersion:           true, // the library's prints in another form
		HideHelpCommand:       true,
		CustomAppHelpTemplate: appHelp(a.groups()),
		EnableBashCompletion:  true, // for scripts of older versions
		Reader:                a.env.In,
		Writer:                a.env.Out,
		ErrWriter:             a.env.Err,
		Flags: append(logFlags(), cli.HelpFlag,
			&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version"}),
		Commands: a.commands(),
		Action:   a.group,
		// Main handles errors; nothing below it exits.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	checkUsage(c.Commands, a.group)
	c.OnUsageError = usageError
	return c
}

// commands returns all commands, the hidden one last.
func (a *app) commands() []*cli.Command {
	var all []*cli.Command
	for _, g := range a.groups() {
		all = append(all, g.commands...)
	}
	return append(all, a.completeCommand())
}

// checkUsage makes a wrong flag, subcommand or argument a usage error in every command. The
// library would print help and exit with success, or ignore the argument.
func checkUsage(commands []*cli.Command, group cli.ActionFunc) {
	for _, c := range commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		for _, f := range c.Flags { // "(default: false)" says nothing
			if b, ok := f.(*cli.BoolFlag); ok {
				b.DisableDefaultText = true
			}
		}
		if c.Action == nil {
			c.Action = group
		}
		if c.ArgsUsage == noArgs {
			c.ArgsUsage = ""
			if c.Before == nil {
				c.Before = rejectArgs
			}
		}
		checkUsage(c.Subcommands, group)
	}
}

// group is the action of a command that only has subcommands.
func (a *app) group(c *cli.Context) error {
	if c.Command == nil || c.Command.Name == c.App.Name || c.Command.Name == "" {
		if c.Bool("version") {
			return a.printVersion(false)
		}
	}
	names := c.App.VisibleCommands()
	if c.Command != nil && len(c.Command.Subcommands) > 0 {
		names = c.Command.Subcommands
	}
	if c.Args().Present() {
		return unknownCommand(c, c.Args().First(), names)
	}
	if c.Command == nil || c.Command.Name == "" || c.Command.Name == c.App.Name {
		return cli.ShowAppHelp(c)
	}
	return usagef(c, "missing subcommand")
}

func usageError(c *cli.Context, err error, _ bool) error {
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: "); unknown {
		return unknownFlag(c, name)
	}
	return usagef(c, "%w", err)
}

// noArgs is the ArgsUsage of a command that rejects arguments.
const noArgs = "-"

// rejectArgs returns a usage error if there are arguments.
func rejectArgs(c *cli.Context) error {
	if c.Args().Present() {
		if flagOf(c.Command.Flags, "from") != nil && !c.IsSet("from") {
			return usagef(c, "name the file by --from: sudo %s --from %s", c.Command.HelpName, check.Sanitize(c.Args().First(), 300))
		}
		return usagef(c, "unexpected argument %q", c.Args().First())
	}
	return nil
}

// stdin reads standard input, up to limit bytes.
func (a *app) stdin(limit int64) (string, error) {
	b, err := io.ReadAll(io.LimitReader(a.env.In, limit))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return string(b), nil
}
