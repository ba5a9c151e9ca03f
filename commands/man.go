package commands

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/fault"
)

func (a *app) manCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Usage: "print the manual page of all commands, or of one", ArgsUsage: "[COMMAND…]",
		Description: "Prints a page for man(1), generated from the help.\n\n" +
			"Examples:\n   cis490 man | man -l -\n   cis490 man release publish | man -l -\n" +
			"   cis490 man | sudo install -Dm644 /dev/stdin /usr/local/share/man/man8/cis490.8",
		Action: a.man,
	}
}

func (a *app) man(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	app, words, known := a.cli(), []string{"cis490"}, a.commands()
	for _, word := range args {
		at := find(known, word)
		if at == nil {
			return unknownCommand(c, word, known)
		}
		words, known = append(words, at.Name), at.Subcommands
		app.Usage, app.Description, app.Flags, app.Commands = at.Usage, at.Description, at.Flags, at.Subcommands
		app.Name, app.UsageText = strings.Join(words, "-"), strings.Join(words, " ")+" [flags] "+strings.TrimSpace(at.ArgsUsage)
	}
	page, err := app.ToManWithSection(8)
	if err != nil {
		return err
	}
	// troff would interpret a leading dot as a request.
	a.printf("%s%s", strings.ReplaceAll(page, "\n...", "\n\\&..."), manEnd())
	return nil
}

// manEnd is the end of every page: the files, and the exit codes.
func manEnd() string {
	type entry struct{ name, does string }
	lab, rx := config.DefaultLabHost(), config.DefaultReceiver()
	var b strings.Builder
	for _, section := range []struct {
		title   string
		entries []entry
	}{
		{"FILES", []entry{
			{config.LabHostPath, "config of a lab host, described in the file"},
			{lab.CertsDir, "identity of a lab host"},
			{lab.DataDir, "episodes of a lab host: recorded, waiting, shipped, in quarantine"},
			{config.ReceiverPath, "config of the receiver, described in the file"},
			{rx.Operator, "token for the dashboard and the operator's API"},
			{rx.DataDir, "episodes, index, alerts and releases of the receiver"},
			{rx.Authority.Dir, "CA key, roster and tokens of the receiver"},
			{installDir, "the installed versions of this program"},
		}},
		{"EXIT STATUS", []entry{
			{"0", "success, or healthy"},
			{fmt.Sprint(fault.Failed), "failed, or found a problem"},
			{fmt.Sprint(fault.Usage), "wrong flag, argument or subcommand"},
			{fmt.Sprint(fault.Unavailable), "the receiver or the authority is unreachable"},
			{fmt.Sprint(fault.TempFail), "temporary failure: run it again"},
			{fmt.Sprint(fault.NoPerm), "needs root, or the files belong to another user"},
			{fmt.Sprint(fault.Config), "configuration: cis490 config check"},
		}},
	} {
		fmt.Fprintf(&b, ".SH %s\n", section.title)
		for _, e := range section.entries {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", strings.ReplaceAll(e.name, "-", `\-`), e.does)
		}
	}
	return b.String()
}
