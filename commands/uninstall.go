package commands

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/agent/checks"
	"cis490/agent/client"
	"cis490/install"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/wire"
)

func (a *app) uninstallCommand() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return append(more, yesFlag(),
			&cli.BoolFlag{Name: "purge", Usage: "also delete data, config, credentials and users"},
			&cli.StringFlag{Name: "root", Usage: "remove the files below `DIR`, as from an image, without services or root"})
	}
	return &cli.Command{
		Name:  "uninstall",
		Usage: "remove a role from this machine; data and config stay, unless --purge",
		Description: "Stops and removes the role's services, and the binary if no other role remains. Fails\n" +
			"for a lab host with unshipped episodes. --purge also deletes data, config, credentials and\n" +
			"users; on a terminal it asks for confirmation.\n\n" +
			"Examples:\n   sudo cis490 uninstall lab-host\n   sudo cis490 uninstall lab-host --purge",
		Subcommands: []*cli.Command{
			{
				Name: "lab-host", Usage: "remove the lab host role from this machine", ArgsUsage: noArgs,
				Description: "Example:\n   sudo cis490 uninstall lab-host",
				Flags:       flags(&cli.BoolFlag{Name: "abandon-data", Usage: "even with unshipped episodes, which stay on the disk unless --purge"}),
				Action:      func(c *cli.Context) error { return a.uninstall(c, install.LabHost) },
			},
			{
				Name: "receiver", Usage: "remove the receiver role from this machine", ArgsUsage: noArgs,
				Description: "Example:\n   sudo cis490 uninstall receiver",
				Flags:       flags(),
				Action:      func(c *cli.Context) error { return a.uninstall(c, install.Receiver) },
			},
		},
	}
}

func (a *app) uninstall(c *cli.Context, role install.Role) error {
	o := install.UninstallOptions{
		Role: role, Root: c.String("root"), AbandonData: c.Bool("abandon-data"), Purge: c.Bool("purge"), Out: a.env.Out,
	}
	if role == install.LabHost && (o.Root == "" || o.Root == "/") {
		o.Stopped = a.leave
	}
	if o.Root == "" || o.Root == "/" {
		if r := string(role); !o.Purge && !a.hasRole(r) && (a.hasRole(roleLabHost) || a.hasRole(roleReceiver)) {
			return a.belongsOn(c, r)
		}
		if err := requireRoot("uninstall"); err != nil {
			return err
		}
		// Without systemd there are no services to stop, only files to remove.
		if install.Supported() == nil {
			o.Manager = install.Systemd()
		}
	}
	if o.Purge {
		if !c.Bool("yes") && !a.asks() {
			err := errors.New("--purge deletes data and needs confirmation")
			return fault.Exit(fault.Fix(err, "sudo "+c.Command.HelpName+" --purge --yes"), fault.Usage)
		}
		if err := a.confirm(c, whatPurgeDeletes(role)); err != nil {
			return err
		}
	}
	return install.Uninstall(c.Context, o)
}

// leave reports to the receiver that this host leaves on purpose. A failure does not stop
// the uninstall.
func (a *app) leave(ctx context.Context) {
	conf, _, err := config.LoadLabHost(config.LabHostPath)
	if err != nil {
		return
	}
	cl, err := client.New(conf, a.env.Build)
	if err != nil || cl.Ready() != nil {
		return
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	q, _ := checks.Figures(disk.OS{}, conf.DataDir)
	_, err = cl.Ping(ctx, wire.Ping{
		Version: a.env.Build.Version, Commit: a.env.Build.Commit, BootID: a.bootID(),
		Clock: time.Now().UTC(), Queue: q, Leaving: true, Uninstalled: true,
	})
	if err != nil {
		a.errorf("warning: cannot report to the receiver that this host is uninstalled: %v", err)
		a.errorf("hint: sudo cis490 host decommission %s   # on the receiver, which otherwise alerts of its silence", conf.Host)
	}
}

// whatPurgeDeletes is the question of --purge.
func whatPurgeDeletes(role install.Role) string {
	if role == install.Receiver {
		return "Delete every episode of the fleet, its index, the CA key and the roster? No host can ship again."
	}
	return "Delete this host's episodes, receipts and identity?"
}
