package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/install"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/local"
	"cis490/receiver/pg"
)

func (a *app) receiverCommand() *cli.Command {
	return &cli.Command{
		Name:        "receiver",
		Usage:       "let machines join as further receivers, which share the work",
		Description: "See docs/growing.md. Run these on the receiver that has the authority; cis490 status shows all receivers.",
		Subcommands: []*cli.Command{{
			Name:      "invite",
			Usage:     "print an invitation for another receiver",
			ArgsUsage: "NAME",
			Description: "NAME is the new receiver's. Prints a secret text: a join token for an hour and one machine,\n" +
				"the settings that all receivers share, the URL of the database, the keys of the object store\n" +
				"and the access tokens. It is not printed on a terminal. Inviting a name again revokes the older\n" +
				"invitation. The new machine needs this program: scp /opt/cis490/current/cis490 rx2:\n\n" +
				"Examples:\n   sudo cis490 receiver invite rx2 | ssh rx2 sudo ./cis490 install receiver --join -\n" +
				"   sudo cis490 receiver invite rx2 --out /media/stick/rx2",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver),
				&cli.StringFlag{Name: "out", Usage: "write it to `FILE`, which only you can read"},
			},
			Action: a.receiverInvite,
		}, {
			Name:        "list",
			Usage:       "list invited receivers and when their certificates expire",
			ArgsUsage:   noArgs,
			Description: "Example:\n   sudo cis490 receiver list",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action:      a.receiverList,
		}, {
			Name:      "revoke",
			Usage:     "stop renewing a receiver's certificate",
			ArgsUsage: "NAME",
			Description: "Its invitation is revoked, too. Its present certificate stays valid until it expires, and it still\n" +
				"has the secrets of the database, the store and the access tokens: docs/security.md explains how to\n" +
				"replace them. cis490 ledger forget does this as well.\n\n" +
				"Example:\n   sudo cis490 receiver revoke rx2",
			Flags:  []cli.Flag{a.configFlag(roleReceiver)},
			Action: a.receiverRevoke,
		}},
	}
}

// namedReceiver returns the argument of a command and this receiver's config. The receiver has
// the authority.
func (a *app) namedReceiver(c *cli.Context) (name ident.Host, conf config.Receiver, err error) {
	args, err := looseArgs(c)
	if err != nil {
		return "", conf, err
	}
	if len(args) != 1 {
		return "", conf, usagef(c, "want one NAME")
	}
	if name, err = ident.ParseHost(args[0]); err != nil {
		return "", conf, usagef(c, "NAME: want 1 to 63 of a-z, 0-9 and '-', got %.80q", args[0])
	}
	if conf, err = a.receiver(c); err == nil {
		err = withAuthority(c, conf)
	}
	return name, conf, err
}

func (a *app) receiverInvite(c *cli.Context) error {
	name, conf, err := a.namedReceiver(c)
	if err != nil {
		return err
	}
	out := c.String("out")
	pipe := fmt.Sprintf("sudo cis490 receiver invite %[1]s | ssh %[1]s sudo ./cis490 install receiver --join -", name)
	switch {
	case conf.Ledger.Backend != config.LedgerPostgres || conf.Store.Backend != config.StoreS3:
		return fault.Exit(fault.Fix(errors.New("this receiver works alone: its rows or its tarballs are in data_dir"),
			"sudo cis490 store copy --help   # moves them to a database and an object store, which several receivers share: docs/growing.md"),
			fault.Config)
	case conf.TLS.Mode != "direct":
		return fault.Exit(fault.Fix(errors.New(`[tls] mode is "proxy": a proxy ends TLS before the receiver, so another one gets no certificate`),
			"sudo editor /etc/cis490/receiver.toml   # mode = \"direct\", behind a balancer that passes TCP: docs/operations.md"),
			fault.Config)
	case out == "" && onTerminal(a.env.Out):
		return fault.Exit(fault.Fix(errors.New("the text has secrets and is not printed on a terminal"),
			pipe+"   # or into a file: --out FILE"), fault.Usage)
	case out != "":
		if err := checkWritable(out); err != nil {
			return err
		}
	}
	i := wire.Invitation{Schema: wire.InvitationSchema, Version: a.env.Build.Version}
	if i.Config, err = config.Encode(conf.Share(string(name), "/etc/cis490")); err != nil {
		return err
	}
	if i.Files, err = sharedFiles(conf); err != nil {
		return err
	}
	_, url, err := a.ledgerConfig(c)
	if err != nil {
		return err
	}
	status, err := pg.ReadStatus(c.Context, url)
	if err != nil {
		return err
	}
	i.StoreID = status.StoreID
	made, err := authority.NewClient(conf.Authority.Socket).Invite(c.Context, name)
	if err != nil {
		return err
	}
	if made.Active {
		a.errorf("warning: %s is a receiver already: the machine that uses this text replaces it", name)
	}
	for what, address := range map[string]string{"object store": conf.Store.S3.Endpoint, "database": url} {
		if onThisMachine(address) {
			a.errorf("warning: the %s is at an address of this machine only, which another machine cannot reach", what)
		}
	}
	i.Token, i.Expires = made.Token, made.Expires
	text, err := i.Text()
	if err != nil {
		return err
	}
	text = fmt.Sprintf("# SECRET: makes a machine the receiver %s of %s, once, until %s. It has the keys of database and store.\n%s",
		name, conf.PublicURL, plain.Time(i.Expires), text)
	if out == "" {
		a.printf("%s", text)
		return nil
	}
	if err := disk.ReplaceBytes(disk.OS{}, out, 0o600, []byte(text)); err != nil {
		return err
	}
	a.errorf("wrote %s: anyone who reads it can use database and store, and become a receiver until %s", out, plain.Time(i.Expires))
	a.errorf("on the new machine: sudo ./cis490 install receiver --join - <%s", out)
	return nil
}

// onThisMachine reports whether a URL is of a loopback address.
func onThisMachine(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// sharedFiles reads the files that all receivers share.
func sharedFiles(conf config.Receiver) (map[string]string, error) {
	files := map[string]string{}
	add := func(name, path string) error {
		b, err := disk.ReadFile(disk.OS{}, path, disk.Small)
		if err != nil {
			return fault.Fix(fmt.Errorf("read what receivers share: %w", err), "run it again with sudo")
		}
		files[name] = string(b)
		return nil
	}
	for name, path := range conf.SharedFiles() {
		if *path == "" || *path == config.NotifyURLsPath && !disk.Exists(disk.OS{}, *path) {
			continue
		}
		if err := add(name, *path); err != nil {
			return nil, err
		}
	}
	tokens, err := local.ReadTokens(disk.OS{}, conf)
	if err != nil {
		return nil, err
	}
	if len(tokens) > 0 {
		b, err := json.MarshalIndent(tokens, "", "  ")
		if err != nil {
			return nil, err
		}
		files[install.TokensFile] = string(b) + "\n"
	}
	_, query, _ := strings.Cut(strings.TrimSpace(files["postgres"]), "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the parameters of the database's URL cannot be parsed")
	}
	for name, parameter := range install.URLFiles() {
		if path := values.Get(parameter); strings.HasPrefix(path, "/") {
			if err := add(name, path); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

func (a *app) receiverList(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err == nil {
		err = withAuthority(c, conf)
	}
	if err != nil {
		return err
	}
	all, err := authority.NewClient(conf.Authority.Socket).Receivers(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(all)
	}
	err = a.table("RECEIVER\tSTATE\tUNTIL\tFROM", func(row func(...any)) {
		for _, r := range all {
			row(r.Name, r.State, plain.Time(r.Expires), r.From)
		}
	})
	if err != nil {
		return err
	}
	s, err := authoritiesOf(conf, stored(conf, c.String("config")))
	if err == nil && s != nil {
		a.printf("authority: %s\n", s)
	}
	return pg.Explain(err)
}

func (a *app) receiverRevoke(c *cli.Context) error {
	name, conf, err := a.namedReceiver(c)
	if err != nil {
		return err
	}
	if err := authority.NewClient(conf.Authority.Socket).RevokeReceiver(c.Context, name); err != nil {
		return err
	}
	a.printf("%s: revoked; its certificate is not renewed\n", name)
	return nil
}
