package commands

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/agent/client"
	"cis490/agent/health"
	"cis490/install"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/wire"
)

func (a *app) uninstallCommand() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return append(more, &cli.StringFlag{Name: "root", Usage: "remove the files below `DIR`, as from an image: no services, no root needed"})
	}
	return &cli.Command{
		Name:  "uninstall",
		Usage: "take a role off this machine; data, config and users stay",
		Description: "Ends and removes the role's services, and the binary if no other role is left here.\n" +
			"A lab host with episodes that were not shipped is refused.\n\n" +
			"Example:\n   sudo cis490 uninstall lab-host",
		Subcommands: []*cli.Command{
			{
				Name: "lab-host", Usage: "take the lab host off this machine", ArgsUsage: " ",
				Description: "Example:\n   sudo cis490 uninstall lab-host",
				Flags:       flags(&cli.BoolFlag{Name: "abandon-data", Usage: "also while episodes are not shipped; they stay on the disk"}),
				Action:      func(c *cli.Context) error { return a.uninstall(c, install.LabHost) },
			},
			{
				Name: "receiver", Usage: "take the receiver off this machine", ArgsUsage: " ",
				Description: "Example:\n   sudo cis490 uninstall receiver",
				Flags:       flags(),
				Action:      func(c *cli.Context) error { return a.uninstall(c, install.Receiver) },
			},
		},
	}
}

func (a *app) uninstall(c *cli.Context, role install.Role) error {
	if err := noArgs(c); err != nil {
		return err
	}
	o := install.UninstallOptions{Role: role, Root: c.String("root"), AbandonData: c.Bool("abandon-data"), Out: a.env.Out}
	if role == install.LabHost && (o.Root == "" || o.Root == "/") {
		o.Stopped = a.leave
	}
	if o.Root == "" || o.Root == "/" {
		if err := requireRoot("uninstall"); err != nil {
			return err
		}
		// Without systemd there are no services to end, but files to remove.
		if install.Supported() == nil {
			o.Manager = install.Systemd()
		}
	}
	return install.Uninstall(c.Context, o)
}

// leave tells the receiver that this host is taken away on purpose. That it could
// not be told is no reason to stay.
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
	q, _ := health.Figures(disk.OS{}, conf.DataDir)
	_, err = cl.Ping(ctx, wire.Ping{Version: a.env.Build.Version, Commit: a.env.Build.Commit, BootID: a.bootID(), Clock: time.Now().UTC(), Queue: q, Leaving: true})
	if err != nil {
		a.errorf("warning: the receiver was not told that this host leaves: %v", err)
	}
}
