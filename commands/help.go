package commands

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// group is a part of the help's list of commands.
type group struct {
	title    string
	commands []*cli.Command
}

// groups returns the commands by what they are for: what people use every day first, what
// systemd starts last.
func (a *app) groups() []group {
	return []group{
		{"SEE AND REPAIR", []*cli.Command{
			a.statusCommand(), a.doctorCommand(), a.explainCommand(), a.logsCommand(), a.hostCommand(), a.alertsCommand(),
			a.episodeCommand(), a.reconcileCommand(), a.debugCommand(),
		}},
		{"SET UP", []*cli.Command{
			a.demoCommand(), a.installCommand(), a.tokenCommand(), a.receiverCommand(), a.configCommand(), a.notifyCommand(), a.uninstallCommand(),
		}},
		{"RELEASES, DATA AND SAFEKEEPING", []*cli.Command{
			a.releaseCommand(), a.caCommand(), a.backupCommand(), a.restoreCommand(), a.archiveCommand(),
			a.exportCommand(), a.accessTokenCommand(), a.storeCommand(), a.ledgerCommand(),
		}},
		{"THIS PROGRAM", []*cli.Command{a.versionCommand(), a.completionCommand(), a.manCommand(), a.helpCommand()}},
		{"STARTED BY SYSTEMD", []*cli.Command{
			a.serveCommand(), a.bootstrapCommand(), a.fleetCheckCommand(),
			a.orchestrateCommand(), a.shipCommand(), a.certFetchCommand(), a.healthCheckCommand(), a.autoupdateCommand(),
		}},
	}
}

// appHelp returns the template of the program's help.
func appHelp(groups []group) string {
	var b strings.Builder
	b.WriteString("NAME:\n   {{.Name}} - {{.Usage}}\n\nUSAGE:\n   {{.HelpName}} COMMAND [flags] [arguments]\n\n" +
		"START HERE:\n   {{.Description | nindent 3 | trim}}\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "\n%s:\n", g.title)
		for _, c := range g.commands {
			fmt.Fprintf(&b, "   %-13s %s\n", c.Name, c.Usage)
		}
	}
	b.WriteString("\nFLAGS:\n{{range .VisibleFlags}}   {{.}}\n{{end}}\n" +
		"cis490 help COMMAND has the flags and examples of a command.\n")
	return b.String()
}

func (a *app) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Aliases: []string{"h"}, Usage: "print the help of a command", ArgsUsage: "[COMMAND…]",
		Description: "Prints the same as the flag --help of that command.\n\nExamples:\n   cis490 help install\n   cis490 help host list",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			known := a.commands()
			for i, word := range words {
				at := find(known, word)
				if at == nil {
					return unknownCommand(c, word, known)
				}
				if known = at.Subcommands; len(known) == 0 && i+1 < len(words) {
					return usagef(c, "%s has no subcommand %q", strings.Join(words[:i+1], " "), words[i+1])
				}
			}
			return a.cli().RunContext(c.Context, append(append([]string{"cis490"}, words...), "--help"))
		},
	}
}

func find(all []*cli.Command, name string) *cli.Command {
	for _, c := range all {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
