package commands

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/assets"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

func (a *app) certFetchCommand() *cli.Command {
	return &cli.Command{
		Name:      "cert-fetch",
		Usage:     "enroll this host, renew its certificate, or recover it after expiry",
		ArgsUsage: noArgs,
		Description: "Enrolls or renews if that is due; a timer runs it every 5 minutes. The\n" +
			"daemons use a new certificate without a restart.\n\nExamples:\n" +
			"   sudo cis490 cert-fetch --renew\n   cis490 cert-fetch --status --json",
		Flags: []cli.Flag{
			a.configFlag(roleLabHost),
			&cli.BoolFlag{Name: "renew", Usage: "renew now, even if it is not due"},
			&cli.BoolFlag{Name: "status", Usage: "print this host's credentials; exit code 1 without a valid certificate"},
			&cli.BoolFlag{Name: "json", Usage: "with --status: print it as JSON"},
			&cli.DurationFlag{Name: "patience", Value: 10 * time.Second, Usage: "retry for `TIME` while the authority is unreachable"},
		},
		Action: a.certFetch,
	}
}

func (a *app) certFetch(c *cli.Context) error {
	if c.Bool("json") && !c.Bool("status") {
		return usagef(c, "--json needs --status")
	}
	conf, err := a.labHost(c)
	if err != nil {
		return err
	}
	log, err := a.log(c)
	if err != nil {
		return err
	}
	if !c.Bool("status") {
		if err := becomeOwner(conf.CertsDir, roleLabHost); err != nil {
			return err
		}
	}
	e, err := enroll.New(enroll.Options{
		FS: disk.OS{}, Dir: conf.CertsDir, Host: ident.Host(conf.Host), Authority: conf.Authority.URL,
		Patience: c.Duration("patience"), Log: log.With("component", "cert-fetch"), Now: time.Now, BuiltIn: assets.RootCA(),
		Probe: func(ctx context.Context, dir string) error { return a.probe(ctx, conf, dir) },
	})
	if err != nil {
		return err
	}
	if c.Bool("status") {
		return a.certStatus(c, e)
	}
	r, err := e.Run(c.Context, c.Bool("renew"))
	if err != nil {
		return err
	}
	if r != enroll.Nothing || a.terminal(a.env.Out) { // nothing due: keep the journal short
		a.printf("%s: %s\n", conf.Host, r)
	}
	return nil
}

// probe sends the receiver a harmless request with the credentials in a folder.
func (a *app) probe(ctx context.Context, conf config.LabHost, dir string) error {
	conf.CertsDir = dir
	cl, err := client.New(conf, a.env.Build)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = cl.Reconcile(ctx, []wire.Pair{})
	return err
}

func (a *app) certStatus(c *cli.Context, e *enroll.Enroller) error {
	s, err := e.Status()
	if err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		err = a.printJSON(s)
	case s.Enrolled:
		a.printf("%s: certificate %s, valid until %s, renews at %s\n", s.Host, s.Serial, plain.Time(s.NotAfter), plain.Time(s.RenewAt))
	case s.Token:
		a.printf("%s: not enrolled yet, has a join token\n", s.Host)
	default:
		a.printf("%s: not enrolled\n", s.Host)
	}
	if err == nil && (!s.Enrolled || !s.Valid) {
		return verdict()
	}
	return err
}

// becomeOwner changes root to the user that owns a folder of a role, so that this user's
// daemons can read new files.
func becomeOwner(dir, role string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	fi, err := disk.OS{}.Stat(dir)
	if err != nil {
		return fault.Fix(err, setUp(role))
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	for _, err := range []error{syscall.Setgroups([]int{int(st.Gid)}), syscall.Setgid(int(st.Gid)), syscall.Setuid(int(st.Uid))} {
		if err != nil {
			return fmt.Errorf("become the owner of %s: %w", dir, err)
		}
	}
	return nil
}
