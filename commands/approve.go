package commands

import (
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/plain"
	"cis490/receiver/authority"
)

func (a *app) approveCommands() []*cli.Command {
	return []*cli.Command{{
		Name:      "approve",
		Usage:     "admit the machine that shows a code",
		ArgsUsage: "CODE",
		Description: "'cis490 install lab-host --receiver URL' shows the code on the new machine. Read it\n" +
			"there: this command accepts it only if no attacker is between that machine and this\n" +
			"receiver.\n\n" +
			"Example:\n   sudo cis490 host approve 123456",
		Flags: []cli.Flag{
			a.configFlag(roleReceiver), jsonFlag(),
			&cli.BoolFlag{Name: "again", Usage: "admit the machine even if its name belongs to an active host, which it replaces"},
		},
		Action: a.hostApprove,
	}, {
		Name:        "pending",
		Usage:       "list machines that wait for approval",
		ArgsUsage:   noArgs,
		Description: "Each machine shows its code on its own screen.\n\nExample:\n   sudo cis490 host pending",
		Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
		Action:      a.hostPending,
	}}
}

func (a *app) hostApprove(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	code := strings.NewReplacer("-", "", " ", "").Replace(strings.Join(args, ""))
	if len(code) != 6 || strings.Trim(code, "0123456789") != "" {
		return usagef(c, "want the CODE of six digits that the new machine shows")
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	done, err := authority.NewClient(conf.Authority.Socket).Approve(c.Context, authority.Approval{Code: code, Again: c.Bool("again")})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(done)
	}
	a.printf("approved %s, which asked from %s\nCA  %s   # compare: the new machine must show the same\n", done.Host, done.From, done.Root)
	return nil
}

func (a *app) hostPending(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	all, err := authority.NewClient(conf.Authority.Socket).Waiting(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(all)
	}
	if len(all) == 0 {
		a.errorf("no machine waits for approval")
		return nil
	}
	return a.table("HOST\tFROM\tSINCE\tEXPIRES", func(row func(...any)) {
		for _, w := range all {
			row(w.Host, w.From, plain.Time(w.Since), plain.Time(w.Expires))
		}
	})
}
