package commands

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver/local"
)

// yesFlag is the --yes flag of a command that asks first.
func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Usage: "do not ask for confirmation on a terminal"}
}

// asks reports whether a person types at a terminal.
func (a *app) asks() bool {
	f, ok := a.env.In.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks a person who types at a terminal. Scripts are not asked.
func (a *app) confirm(c *cli.Context, question string) error {
	if c.Bool("yes") || !a.asks() {
		return nil
	}
	_, _ = fmt.Fprintf(a.env.Err, "%s [y/N] ", check.Sanitize(question, 500))
	line, err := bufio.NewReader(a.env.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return fault.Exit(fault.Fix(errors.New("not confirmed; nothing was changed"), "--yes does it without the question"), fault.Failed)
	}
	return nil
}

// suggestHost adds the most similar name of the roster to the error about an unknown host.
func suggestHost(conf config.Receiver, h ident.Host, err error) error {
	all, rerr := local.Roster(disk.OS{}, conf.Authority.Dir).All()
	if err == nil || rerr != nil {
		return err
	}
	var names []string
	for _, known := range all {
		if known.Name == h {
			return err
		}
		names = append(names, string(known.Name))
	}
	if hint := meant("", string(h), names); hint != "" {
		return fault.Exit(fault.Fix(fmt.Errorf("%w%s", err, hint), fault.FixOf(err)), fault.CodeOf(err))
	}
	return err
}
