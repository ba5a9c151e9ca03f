// Package commands is the command line: each subcommand is a file that turns
// flags and config into one call and its result into text. It is the only place
// where agent, receiver and install meet; it holds no logic of theirs.
package commands

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"cis490/internal/plain"
	"cis490/internal/version"
)

// Env is what the program gets from the world around it.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Build    version.Info
}

// Main runs the program and returns its exit code. The context ends when the
// program is asked to stop: a command may still be running when Main returns, so
// the caller ends the program. What is printed has no hidden characters, and
// errors and logs have no secrets.
func Main(ctx context.Context, args []string, env Env) int {
	env.Out, env.Err = plain.NewWriter(env.Out), maskWriter{plain.NewWriter(env.Err)}
	a := &app{env: env, patient: new(atomic.Bool)}
	return a.interruptible(ctx, func() int { return a.report(a.cli().RunContext(ctx, args)) })
}

// app is one run of the program.
type app struct {
	env     Env
	patient *atomic.Bool // set by stopsItself; copies of an app share it
}

// cli builds the command tree.
func (a *app) cli() *cli.App {
	c := &cli.App{
		Name:                 "cis490",
		Usage:                "record, ship and collect behaviour episodes with a fleet that heals itself",
		Description:          "Start here:\n   cis490 demo                                   the whole system on this machine, no root\n   sudo cis490 install receiver --public-url URL  make this machine the receiver\n   sudo cis490 install lab-host --join -          make this machine a lab host",
		Version:              a.env.Build.Version,
		HideVersion:          true, // `cis490 version` says more
		EnableBashCompletion: true,
		Reader:               a.env.In,
		Writer:               a.env.Out,
		ErrWriter:            a.env.Err,
		Flags:                logFlags(),
		Commands:             a.commands(),
		Action:               a.group,
		// Errors rise to Main; nothing below it exits.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	rejectUsage(c.Commands, a.group)
	c.OnUsageError = usageError
	return c
}

// commands lists the subcommands in the order in which help shows them.
func (a *app) commands() []*cli.Command {
	return []*cli.Command{
		a.demoCommand(),
		a.serveCommand(),
		a.shipCommand(),
		a.orchestrateCommand(),
		a.episodeCommand(),
		a.reconcileCommand(),
		a.installCommand(),
		a.uninstallCommand(),
		a.autoupdateCommand(),
		a.releaseCommand(),
		a.bootstrapCommand(),
		a.certFetchCommand(),
		a.tokenCommand(),
		a.hostCommand(),
		a.caCommand(),
		a.doctorCommand(),
		a.healthCheckCommand(),
		a.fleetCheckCommand(),
		a.alertsCommand(),
		a.archiveCommand(),
		a.backupCommand(),
		a.restoreCommand(),
		a.statusCommand(),
		a.configCommand(),
		a.versionCommand(),
		a.completionCommand(),
		a.manCommand(),
	}
}

// rejectUsage gives every command the same manners: a wrong flag or subcommand
// is a usage error, not help on standard output with success.
func rejectUsage(commands []*cli.Command, group cli.ActionFunc) {
	for _, c := range commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		if c.Action == nil {
			c.Action = group
		}
		rejectUsage(c.Subcommands, group)
	}
}

// group is the action of a command that only has subcommands.
func (a *app) group(c *cli.Context) error {
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
	return usagef(c, "say which of its subcommands")
}

func usageError(c *cli.Context, err error, _ bool) error {
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: "); unknown {
		return unknownFlag(c, name)
	}
	return usagef(c, "%w", err)
}

// noArgs refuses arguments.
func noArgs(c *cli.Context) error {
	if c.Args().Present() {
		return usagef(c, "unexpected argument %q", c.Args().First())
	}
	return nil
}

// stdin reads what was piped in, up to limit bytes.
func (a *app) stdin(limit int64) (string, error) {
	b, err := io.ReadAll(io.LimitReader(a.env.In, limit))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return string(b), nil
}
