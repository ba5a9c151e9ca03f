package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
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
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

func (a *app) certFetchCommand() *cli.Command {
	return &cli.Command{
		Name:      "cert-fetch",
		Usage:     "enroll this machine, renew its certificate, or recover it after expiry",
		ArgsUsage: noArgs,
		Description: "Enrolls or renews if that is due; on a lab host a timer runs it every 5 minutes. The\n" +
			"daemons use a new certificate without a restart. On a receiver whose authority is on another\n" +
			"one, it renews the server certificate, as serve does by itself.\n\nExamples:\n" +
			"   sudo cis490 cert-fetch --renew\n   cis490 cert-fetch --status --json\n" +
			"   sudo cis490 cert-fetch --renew --config /etc/cis490/receiver.toml",
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
	log, err := a.log(c)
	if err != nil {
		return err
	}
	o, role, err := a.enrollOptions(c)
	if err != nil {
		return err
	}
	if !c.Bool("status") {
		if err := becomeOwner(o.Dir, role); err != nil {
			return err
		}
	}
	o.Patience, o.Log = c.Duration("patience"), log.With("component", "cert-fetch")
	e, err := enroll.New(o)
	if err != nil {
		return err
	}
	if c.Bool("status") {
		return a.certStatus(c, e)
	}
	r, err := e.Run(c.Context, c.Bool("renew") || byOlderCA(o))
	if err != nil {
		return err
	}
	if r != enroll.Nothing || a.terminal(a.env.Out) { // nothing due: keep the journal short
		a.printf("%s: %s\n", o.Host, r)
	}
	return nil
}

// enrollOptions returns whose certificate this is about, and the role: the lab host's or, with
// the config of a receiver or on a machine without a lab host, the receiver's.
func (a *app) enrollOptions(c *cli.Context) (enroll.Options, string, error) {
	path := a.configPath(roleReceiver)
	if c.IsSet("config") {
		path = c.String("config")
	}
	if roleOf(path) == roleReceiver && (c.IsSet("config") || !a.hasRole(roleLabHost) && a.hasRole(roleReceiver)) {
		conf, _, err := config.LoadReceiver(path)
		if err != nil {
			return enroll.Options{}, roleReceiver, err
		}
		o, ok := serverEnroll(conf)
		switch {
		case !ok && !c.IsSet("config"):
			_, err = a.labHost(c)
		case !ok:
			err = fault.Exit(fault.Fix(errors.New("this receiver gets no server certificate from an authority elsewhere"),
				"sudo cis490 doctor --only server.cert   # which certificate it has"), fault.Config)
		}
		return o, roleReceiver, err
	}
	conf, err := a.labHost(c)
	return enroll.Options{
		FS: disk.OS{}, Dir: conf.CertsDir, Host: ident.Host(conf.Host), Authority: conf.Authority.URL, Now: time.Now, BuiltIn: assets.RootCA(),
		Probe: func(ctx context.Context, dir string) error { return a.probe(ctx, conf, dir) },
	}, roleLabHost, err
}

// serverEnroll returns how a receiver gets its server certificate from an authority elsewhere;
// false: it does not.
func serverEnroll(conf config.Receiver) (enroll.Options, bool) {
	u, err := url.Parse(conf.PublicURL)
	if err != nil || !conf.Authority.Elsewhere || conf.Name == "" || conf.TLS.Mode != "direct" || conf.TLS.Certificate != "" {
		return enroll.Options{}, false
	}
	return enroll.Options{
		FS: disk.OS{}, Dir: conf.Authority.Dir, Host: ident.Host(conf.Name), Serves: u.Hostname(), Authority: conf.Authority.URL, Now: time.Now,
	}, true
}

// byOlderCA reports whether a receiver's certificate is of a CA that was rotated out, which hosts
// may not trust any more before it is due.
func byOlderCA(o enroll.Options) bool {
	if o.Serves == "" {
		return false
	}
	trust, err := disk.ReadFile(o.FS, filepath.Join(o.Dir, "trust.pem"), disk.Small)
	pair, perr := disk.ReadFile(o.FS, filepath.Join(o.Dir, enroll.ServerFile), disk.Small)
	if errors.Join(err, perr) != nil {
		return false // enrollment comes first
	}
	cas, err := pki.ParseCerts(trust) // the current one first
	own, perr := pki.ParseCerts(pair)
	return errors.Join(err, perr) == nil && own[0].CheckSignatureFrom(cas[0]) != nil
}

// renewEvery is the longest time between two looks of serve whether its certificate is due.
const renewEvery = 5 * time.Minute

// renewServerCert keeps the server certificate of a receiver whose authority is elsewhere, until
// the context ends. serve follows the file.
func renewServerCert(ctx context.Context, conf config.Receiver, log *slog.Logger) {
	o, ok := serverEnroll(conf)
	if !ok {
		return
	}
	o.Log = log.With("component", "certificate")
	last := ""
	for {
		e, err := enroll.New(o)
		if err == nil {
			_, err = e.Run(ctx, byOlderCA(o))
		}
		if said := fmt.Sprint(err); err != nil && ctx.Err() == nil && said != last {
			o.Log.Warn("cannot renew the server certificate", "err", err, "fix", fault.FixOf(err))
		}
		last = fmt.Sprint(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewEvery/2 + rand.N(renewEvery/2)):
		}
	}
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
