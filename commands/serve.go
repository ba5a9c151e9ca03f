package commands

import (
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	labchecks "cis490/agent/checks"
	"cis490/internal/clock"
	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/cluster"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/mirror"
	"cis490/receiver/records"
	"cis490/receiver/server"
	"cis490/receiver/store"
)

// addrFileFlag is --addr-file of a command that listens.
func addrFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "addr-file", Usage: "write the listener's address to `FILE`, for use with port 0"}
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
		Usage:     "the receiver: accept episodes from lab hosts",
		ArgsUsage: noArgs,
		Description: "Answers an upload with success only after it is durable. Until the authority has written\n" +
			"its files (see cis490 bootstrap), and while serve's own files are unusable, it waits and logs\n" +
			"the missing condition; GET /readyz returns it too.\n\n" +
			"Example:\n   cis490 serve --config /etc/cis490/receiver.toml",
		Flags:  []cli.Flag{a.configFlag(roleReceiver), addrFileFlag()},
		Action: a.serve,
	}
}

func (a *app) serve(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	log, err := a.log(c)
	if err != nil {
		return err
	}
	held := disk.Hold(conf.DataDir, filepath.Join(conf.DataDir, store.StagedDir), conf.Authority.Dir)
	back := backend(conf, held, c.String("config"), log)
	releases := a.rollout(conf, back, knownReports(back), log)
	others := cluster.New(back.Peers, log.With("component", "cluster"))
	known := local.Roster(held, conf.Authority.Dir)
	if conf.Authority.Shared() {
		known = records.Roster(back.Authority)
	}
	o := server.Options{
		Releases: releases, Offered: releases.Version,
		Config: conf, Build: a.env.Build, Admin: local.AdminSocket(conf.DataDir),
		Catalogue: local.CataloguePath(conf.DataDir), Listen: local.Listen(held),
		Gate:    a.gate(held, c.String("config"), releases, others, log),
		Backend: back, Cluster: others, Credentials: local.Credentials(held, conf),
		Roster: known,
		FleetCheck: func() time.Time {
			return fleet.Ran(back) // each run replaces the document, even if nothing is found
		},
		InstallScript: scriptCache(conf, c.String("config"), time.Now),
		Known:         registry(labchecks.Checks(labchecks.Options{})),
		Notify: func(state string) {
			// Fails without a service manager.
			_, _ = daemon.SdNotify(false, state)
		},
		Now: time.Now, Clock: clock.Read(disk.OS{}), Log: log,
	}
	if back.Peers != nil {
		publishing := receiver.Publishing
		if conf.Authority.Shared() {
			publishing = receiver.Releasing // the other one is the authority's
		}
		o.Mirror = mirror.New(mirror.Options{
			Docs: back.Docs, Lease: func() (io.Closer, error) { return back.Lease(publishing) }, FS: held,
			Authority: conf.Authority.Dir, Releases: local.ReleasesDir(conf.DataDir), Elsewhere: copiesOf(conf, back.Peers),
			Shared: conf.Authority.Shared(), Recorded: back.Authority,
			Log: log.With("component", "mirror"),
		}).Run
	}
	s, err := server.New(o)
	if err != nil {
		return err
	}
	if err := writeAddr(c, s.Addr().String()); err != nil {
		return errors.Join(err, s.Close())
	}
	a.stopsItself()
	go renewServerCert(c.Context, conf, log)
	go a.serveReaders(c.Context, roleConfig{roleReceiver, c.String("config")}, conf, log)
	return s.Run(c.Context)
}
