package commands

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver/authority"
	"cis490/receiver/pg"
)

func (a *app) bootstrapCommand() *cli.Command {
	return &cli.Command{
		Name:      "bootstrap",
		Usage:     "the authority: issue certificates, keep roster and tokens",
		ArgsUsage: noArgs,
		Description: "At its first start it creates the fleet's CA. It alone reads the CA key and writes\n" +
			"roster, tokens and certificates; token, host and ca use it over its Unix socket.\n\n" +
			"Example:\n   cis490 bootstrap --config /etc/cis490/receiver.toml",
		Flags:  []cli.Flag{a.configFlag(roleReceiver), addrFileFlag()},
		Action: a.bootstrap,
	}
}

func (a *app) bootstrap(c *cli.Context) (err error) {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	log, err := a.log(c)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	if conf.Authority.Elsewhere {
		return fault.Exit(fault.Fix(errors.New("the authority is on another receiver: [authority] elsewhere is true"),
			"sudo systemctl disable --now cis490-bootstrap"), fault.Config)
	}
	o := authority.Options{
		Config: conf.Authority, PublicURL: conf.PublicURL, Hostname: name, Root: conf.TLS.Root, PinFile: authority.PinFile(c.String("config")),
		Balancers: conf.Balancer.Prefixes(), FS: disk.OS{}, Log: log.With("component", "bootstrap"), Now: time.Now,
		Notify: func(state string) {
			// Fails without a service manager.
			_, _ = daemon.SdNotify(false, state)
		},
	}
	if conf.Authority.Shared() {
		a.stopsItself()
		rows := pg.OpenRecords(pg.Options{
			FS: disk.OS{}, URLFile: conf.Authority.URLFile, Pooler: conf.Ledger.Pooler, Name: conf.Name, Log: o.Log,
		})
		return authority.Shared(c.Context, o, rows, func(at net.Addr) error { return writeAddr(c, at.String()) })
	}
	auth, err := authority.New(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, auth.Close()) }()
	if err := writeAddr(c, auth.Addr().String()); err != nil {
		return err
	}
	a.stopsItself()
	return auth.Run(c.Context)
}
