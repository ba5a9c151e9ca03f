package commands

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	labhealth "cis490/agent/health"
	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver/fleet"
	"cis490/receiver/roster"
	"cis490/receiver/server"
)

// addrFileFlag is --addr-file of a command that listens.
func addrFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "addr-file", Usage: "write the address that is listened on to `FILE`, for a port of 0"}
}

// writeAddr writes the address file, if one was asked for.
func writeAddr(c *cli.Context, addr string) error {
	path := c.String("addr-file")
	if path == "" {
		return nil
	}
	return disk.ReplaceBytes(disk.OS{}, path, 0o644, []byte(addr+"\n"))
}

func (a *app) serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "the receiver: take episodes from lab hosts",
		ArgsUsage: " ",
		Description: "Answers an upload with success only after it is durable. Until the authority has\n" +
			"written its files (see cis490 bootstrap) it waits and says for what; GET /readyz tells it too.\n\n" +
			"Example:\n   cis490 serve --config /etc/cis490/receiver.toml",
		Flags:  []cli.Flag{configFlag(config.ReceiverPath), addrFileFlag()},
		Action: a.serve,
	}
}

func (a *app) serve(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	log, err := a.log(c)
	if err != nil {
		return err
	}
	releases := a.rollout(conf, log)
	o := server.Options{
		Releases: releases, Offered: releases.Version,
		Config: conf, ConfigPath: c.String("config"), Build: a.env.Build, FS: disk.OS{},
		Roster: roster.Open(disk.OS{}, conf.Authority.Dir),
		FleetCheck: func() time.Time {
			// Each run replaces the file, also where nothing is found.
			fi, err := os.Stat(filepath.Join(conf.DataDir, fleet.RunFile))
			if err != nil {
				return time.Time{}
			}
			return fi.ModTime()
		},
		Known: registry(labhealth.Checks(labhealth.Options{})),
		Notify: func(state string) {
			// Without a service manager there is nobody to tell.
			_, _ = daemon.SdNotify(false, state)
		},
		Now: time.Now, Log: log,
	}
	s, err := a.open(c.Context, o)
	if err != nil || s == nil {
		return err
	}
	if err := writeAddr(c, s.Addr().String()); err != nil {
		return errors.Join(err, s.Close())
	}
	return s.Run(c.Context)
}

// open opens the receiver. Where a service manager started it, a file that is
// not its user's (a tool run as root made it anew) is waited for: staying down
// would need a person after the mend, too. It returns nil when ctx ends first.
func (a *app) open(ctx context.Context, o server.Options) (*server.Server, error) {
	said := ""
	for {
		s, err := server.New(o)
		if !errors.Is(err, fs.ErrPermission) || a.env.Getenv("NOTIFY_SOCKET") == "" {
			return s, err
		}
		if err.Error() != said {
			said = err.Error()
			o.Log.Error("not ready, waiting for a file", "err", err, "fix", fault.FixOf(err))
		}
		o.Notify("READY=1\nWATCHDOG=1\nSTATUS=not ready: " + check.Plain(said, 300))
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(2 * time.Second):
		}
	}
}
