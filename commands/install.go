package commands

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"cis490/install"
)

// maxToken bounds a join token on standard input, in bytes.
const maxToken = 16 << 10

func (a *app) installCommand() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return append(more,
			&cli.BoolFlag{Name: "dry-run", Usage: "print every change, with file diffs and commands, without applying it"},
			&cli.BoolFlag{Name: "check", Usage: "print what differs, without changes; exit code 1 if anything differs"},
			&cli.StringFlag{Name: "root", Usage: "write the files below `DIR`, as for an image, without users, services or root"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print each change in a line of its own, and the steps without changes"},
			&cli.BoolFlag{Name: "no-start", Usage: "enable the services, but do not start or restart them"},
			&cli.IntFlag{Name: "update", Hidden: true, Usage: "used by updates: the lock is open as descriptor `N`"},
		)
	}
	return &cli.Command{
		Name:  "install",
		Usage: "make this machine a lab host or a receiver, or repair it",
		Description: "Sets up a role on this machine: users, folders, binary, config if there is none, units,\n" +
			"enrollment, running services. Run it again at any time: it changes only what differs.\n" +
			"It never changes an existing config, drop-ins or masked units.\n\n" +
			"Examples:\n   sudo cis490 install receiver --public-url https://collector.lab:8443\n" +
			"   echo c490.… | sudo cis490 install lab-host --join -\n   cis490 install lab-host --check",
		Subcommands: []*cli.Command{
			{
				Name: "lab-host", Usage: "make this machine a lab host, or repair it", ArgsUsage: noArgs,
				Description: "A new host needs to be admitted once. --receiver shows a code for 'cis490 host approve'\n" +
					"on the receiver. --join reads a token of 'cis490 token create HOST' from standard input,\n" +
					"so that no process list shows it.\n\n" +
					"Examples:\n   sudo cis490 install lab-host --receiver https://collector.lab:8443\n" +
					"   echo c490.… | sudo cis490 install lab-host --join -",
				Flags: flags(
					&cli.StringFlag{Name: "join", Usage: "read the join token from standard input; `-` is the only value"},
					&cli.StringFlag{Name: "receiver", Usage: "`URL` of the receiver: show a code to approve there"},
					&cli.StringFlag{Name: "name", Usage: "join as `HOST` if the token names no host (default: this machine's name)"},
				),
				Action: func(c *cli.Context) error { return a.install(c, install.LabHost) },
			},
			{
				Name: "receiver", Usage: "make this machine a receiver, or repair it", ArgsUsage: noArgs,
				Description: "The public URL is the address for lab hosts: a permanent name or address, and the\n" +
					"port. It is needed only the first time. --join makes this machine one more receiver: it reads\n" +
					"what 'cis490 receiver invite NAME' prints on the receiver that has the authority.\n\n" +
					"Examples:\n   sudo cis490 install receiver --public-url https://collector.lab:8443\n" +
					"   sudo cis490 receiver invite rx2 | ssh rx2 sudo ./cis490 install receiver --join -",
				Flags: flags(
					&cli.StringFlag{Name: "join", Usage: "read the invitation from standard input; `-` is the only value"},
					&cli.StringFlag{Name: "public-url", Usage: "`URL` of this receiver for lab hosts"},
					&cli.StringFlag{Name: "ca-cert", Usage: "certificate `FILE` of your own CA; only before the first start"},
					&cli.StringFlag{Name: "ca-key", Usage: "unencrypted key `FILE` of that CA; delete it afterwards"},
				),
				Action: func(c *cli.Context) error { return a.install(c, install.Receiver) },
			},
		},
	}
}

func (a *app) install(c *cli.Context, role install.Role) error {
	if c.Bool("dry-run") && c.Bool("check") {
		return usagef(c, "--dry-run and --check are mutually exclusive")
	}
	if c.String("receiver") != "" && (c.Bool("dry-run") || c.Bool("check") || c.String("root") != "" || c.String("join") != "") {
		return usagef(c, "--receiver cannot be combined with --join, --dry-run, --check or --root")
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	o := install.Options{
		Role: role, Name: c.String("name"), Root: c.String("root"), Binary: binary, Build: a.env.Build,
		PublicURL: c.String("public-url"), CACert: c.String("ca-cert"), CAKey: c.String("ca-key"), NoStart: c.Bool("no-start"),
		Verbose: c.Bool("verbose"), Out: a.env.Out,
		Summary: func(ctx context.Context, w io.Writer) error { return a.installed(ctx, w, string(role)) },
	}
	if c.IsSet("update") {
		o.Update = true
		if fd := c.Int("update"); fd > 2 {
			o.Held = os.NewFile(uintptr(fd), "lock")
		}
	}
	looking := c.Bool("dry-run") || c.Bool("check")
	if o.Root == "" || o.Root == "/" {
		if !looking {
			if err := requireRoot("install"); err != nil {
				return err
			}
		}
		switch err := install.Supported(); {
		case err == nil:
			o.Manager = install.Systemd()
		case !looking:
			return err
		}
		if !looking && !o.Update { // doctor checks a machine with installed services
			if err := install.Preflight(c.Context); err != nil {
				return err
			}
		}
	}
	switch join := c.String("join"); join {
	case "":
	case "-":
		if role == install.Receiver {
			if o.Invitation, err = a.readInvitation(c, o.Root != "" && o.Root != "/"); err != nil {
				return err
			}
			break
		}
		if o.Token, err = a.stdin(maxToken); err != nil {
			return err
		}
		if o.Token == "" {
			return usagef(c, "no join token on standard input")
		}
	default:
		return usagef(c, "pass the join token on standard input, because every user can see command lines: echo TOKEN | … --join -")
	}
	if rx := c.String("receiver"); rx != "" {
		if o.Token, err = a.askToJoin(c, rx); err != nil {
			return err
		}
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
