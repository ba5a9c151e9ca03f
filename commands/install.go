package commands

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"cis490/install"
)

// maxToken bounds what is read as a join token, in bytes.
const maxToken = 16 << 10

func (a *app) installCommand() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return append(more,
			&cli.BoolFlag{Name: "dry-run", Usage: "print every change, with the difference of each file and each command, and change nothing"},
			&cli.BoolFlag{Name: "check", Usage: "print what differs and change nothing; exit code 1 if anything does"},
			&cli.StringFlag{Name: "root", Usage: "write the files below `DIR`, as for an image: no users, no services, no root needed"},
			&cli.BoolFlag{Name: "no-start", Usage: "enable the services, but do not start or restart them"},
			&cli.IntFlag{Name: "update", Hidden: true, Usage: "an update runs this and hands over its lock as the descriptor `N`"},
		)
	}
	return &cli.Command{
		Name:  "install",
		Usage: "make this machine a lab host or the receiver, or mend it",
		Description: "Converges this machine on a role: users, folders, binary, config if there is none,\n" +
			"units, enrolment, running services. Run it again at any time: what is right already\n" +
			"is not touched. An existing config, drop-ins and masked units are never changed.\n\n" +
			"Examples:\n   sudo cis490 install receiver --public-url https://collector.lab:8443\n" +
			"   echo c490.… | sudo cis490 install lab-host --join -\n   cis490 install lab-host --check",
		Subcommands: []*cli.Command{
			{
				Name: "lab-host", Usage: "make this machine a lab host, or mend it", ArgsUsage: " ",
				Description: "The join token comes from 'cis490 token create HOST' on the receiver, and is read\n" +
					"from standard input, so that it shows in no list of processes. It is needed only the\n" +
					"first time.\n\nExample:\n   echo c490.… | sudo cis490 install lab-host --join -",
				Flags:  flags(&cli.StringFlag{Name: "join", Usage: "read the join token from standard input; `-` is the only value"}),
				Action: func(c *cli.Context) error { return a.install(c, install.LabHost) },
			},
			{
				Name: "receiver", Usage: "make this machine the receiver, or mend it", ArgsUsage: " ",
				Description: "The public URL is the address that lab hosts use: a name or address that stays, and\n" +
					"the port. It is needed only the first time.\n\n" +
					"Example:\n   sudo cis490 install receiver --public-url https://collector.lab:8443",
				Flags: flags(
					&cli.StringFlag{Name: "public-url", Usage: "`URL` that lab hosts know this receiver by"},
					&cli.StringFlag{Name: "ca-cert", Usage: "issue with a CA of your own: its certificate's `FILE`; only before the first start"},
					&cli.StringFlag{Name: "ca-key", Usage: "the `FILE` of that CA's key, unencrypted; destroy it afterwards"},
				),
				Action: func(c *cli.Context) error { return a.install(c, install.Receiver) },
			},
		},
	}
}

func (a *app) install(c *cli.Context, role install.Role) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if c.Bool("dry-run") && c.Bool("check") {
		return usagef(c, "--dry-run and --check are two different questions: ask one")
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	o := install.Options{
		Role: role, Root: c.String("root"), Binary: binary, Build: a.env.Build,
		PublicURL: c.String("public-url"), CACert: c.String("ca-cert"), CAKey: c.String("ca-key"), NoStart: c.Bool("no-start"), Out: a.env.Out,
		// What doctor finds is told, and is not the install's failure.
		Summary: func(ctx context.Context, w io.Writer) error { return a.doctorSummary(ctx, w, string(role)) },
	}
	if c.IsSet("update") {
		o.Update = true
		if fd := c.Int("update"); fd > 2 {
			o.Held = os.NewFile(uintptr(fd), "lock")
		}
	}
	looking := c.Bool("dry-run") || c.Bool("check")
	if o.Root == "" || o.Root == "/" {
		switch err := install.Supported(); {
		case err == nil:
			o.Manager = install.Systemd()
		case !looking:
			return err
		}
		if !looking {
			if err := requireRoot("install"); err != nil {
				return err
			}
			if !o.Update { // a machine that has the services already is for doctor to judge
				if err := install.Preflight(c.Context); err != nil {
					return err
				}
			}
		}
	}
	switch join := c.String("join"); join {
	case "":
	case "-":
		if o.Token, err = a.stdin(maxToken); err != nil {
			return err
		}
		if o.Token == "" {
			return usagef(c, "no join token on standard input")
		}
	default:
		return usagef(c, "a join token must not be in the command line, where every user can see it: echo TOKEN | … --join -")
	}
	plan, err := install.New(o)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("dry-run"):
		_, err = plan.DryRun(c.Context)
		return err
	case c.Bool("check"):
		drift, err := plan.Drift(c.Context)
		if err == nil && drift > 0 {
			return verdict()
		}
		return err
	}
	return plan.Apply(c.Context)
}
