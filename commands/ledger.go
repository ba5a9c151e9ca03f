package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/authority"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/pg"
	"cis490/receiver/store"
	"cis490/receiver/storecopy"
)

func (a *app) ledgerCommand() *cli.Command {
	return &cli.Command{
		Name:        "ledger",
		Usage:       "prepare the database of a receiver that keeps its rows in PostgreSQL",
		Description: "See docs/growing.md for the steps.",
		Subcommands: []*cli.Command{
			{
				Name: "migrate", Usage: "create or update the tables in the database", ArgsUsage: noArgs,
				Description: "Run it before serve starts for the first time, and when serve asks for it. It may run while\n" +
					"receivers of this or the previous version serve. It makes the roles cis490_serve, cis490_read and\n" +
					"cis490_authority. The user in [ledger] url_file gets the first one, the user in [authority] url_file\n" +
					"the last one. FILE has the URL of a user that owns the database and may create roles; without\n" +
					"--url-file, the config's user is used.\n\n" +
					"Example:\n   sudo cis490 ledger migrate --url-file /root/postgres-owner",
				Flags: []cli.Flag{
					a.configFlag(roleReceiver), &cli.StringFlag{Name: "url-file", Usage: "connect with the URL in `FILE`"},
				},
				Action: a.ledgerMigrate,
			},
			{
				Name: "load", Usage: "load a restored backup into a new database", ArgsUsage: noArgs,
				Description: "After the database is lost: restore the backup, make a new database with cis490 ledger migrate,\n" +
					"and load alerts, silences, contacts and notes of the backup into it with this command. Then take\n" +
					"the bucket over. serve adds the rows of all objects that are older than an hour.\n\n" +
					"Example:\n   sudo cis490 ledger migrate --url-file /root/postgres-owner\n   sudo cis490 ledger load\n" +
					"   sudo cis490 store init --take-over\n   sudo systemctl start cis490-bootstrap cis490-receiver",
				Flags:  []cli.Flag{a.configFlag(roleReceiver)},
				Action: a.ledgerLoad,
			},
			{
				Name: "status", Usage: "show the database's schema and size", ArgsUsage: noArgs,
				Description: "Example:\n   sudo cis490 ledger status",
				Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
				Action:      a.ledgerStatus,
			},
			{
				Name: "forget", Usage: "forget a receiver that is gone for good", ArgsUsage: "NAME",
				Description: "NAME is as in cis490 status; its first word is enough. The receiver is no longer listed; if it\n" +
					"serves, it is listed again within seconds. Its data about hosts stays. On the receiver that has\n" +
					"the authority, this also does what cis490 receiver revoke does.\n\n" +
					"Example:\n   sudo cis490 ledger forget rx2",
				Flags:  []cli.Flag{a.configFlag(roleReceiver)},
				Action: a.ledgerForget,
			},
		},
	}
}

// ledgerConfig returns the config and the URL of its database.
func (a *app) ledgerConfig(c *cli.Context) (conf config.Receiver, url string, err error) {
	if conf, err = a.receiver(c); err != nil {
		return conf, "", err
	}
	if conf.Ledger.Backend != config.LedgerPostgres {
		return conf, "", fault.Exit(fault.Fix(errors.New("the config keeps rows in data_dir, which needs no database"),
			`set [ledger] backend = "postgres" first`), fault.Config)
	}
	url, err = pg.ReadURL(disk.OS{}, conf.Ledger.URLFile)
	return conf, url, err
}

func (a *app) ledgerMigrate(c *cli.Context) error {
	conf, url, err := a.ledgerConfig(c)
	if err != nil {
		return err
	}
	owner, user := url, ""
	if file := c.String("url-file"); file != "" {
		if owner, err = pg.ReadURL(disk.OS{}, file); err != nil {
			return err
		}
		if user, err = pg.User(url); err != nil {
			return err
		}
	}
	from, to, err := pg.Migrate(c.Context, owner, user, store.ID(disk.OS{}, conf.DataDir))
	if err != nil {
		return err
	}
	if file := conf.Authority.URLFile; file != "" && user != "" {
		url, err := pg.ReadURL(disk.OS{}, file)
		if err != nil {
			return err
		}
		issuer, err := pg.User(url)
		if err == nil && issuer == user {
			err = fault.Fix(fmt.Errorf("%s and %s have the same user: who can use the first one could enroll hosts", conf.Ledger.URLFile, file),
				`psql -c "CREATE ROLE cis490_ca LOGIN PASSWORD '…'"   # as in docs/growing.md; then put it into `+file)
		}
		if err == nil {
			err = pg.GrantAuthority(c.Context, owner, issuer)
		}
		if err != nil {
			return err
		}
	}
	if from == to {
		a.printf("the database has schema %d already\n", to)
	} else {
		a.printf("migrated the database from schema %d to %d\n", from, to)
	}
	return nil
}

// ledgerForget removes what a receiver published of itself.
func (a *app) ledgerForget(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return usagef(c, "want one NAME, in quotes if it has a space")
	}
	conf, _, err := a.ledgerConfig(c)
	if err != nil {
		return err
	}
	peers := stored(conf, c.String("config")).Peers
	name, err := memberNamed(peers, args[0])
	if err != nil {
		return err
	}
	if name == peers.Self() {
		return fault.Fix(fmt.Errorf("%s is this receiver", check.Sanitize(name, 80)), "sudo cis490 uninstall receiver   # prints how")
	}
	// First, because a receiver that is not named any more is not revoked by a second attempt.
	revoked, err := a.revokeMember(c, conf, name)
	if err != nil {
		return err
	}
	if _, err := peers.Forget(name, cluster.MemberKey, contacts.BookKey); err != nil {
		return pg.Explain(err)
	}
	a.printf("forgot %s%s\n", check.Sanitize(name, 80), revoked)
	return nil
}

// memberNamed returns the whole name of a receiver of which one has the name or its first word.
func memberNamed(peers receiver.Peers, name string) (string, error) {
	all, err := cluster.Read(peers)
	if err != nil {
		return "", pg.Explain(err)
	}
	var found []string
	for _, m := range all {
		if m.Name == name || strings.HasPrefix(m.Name, name+" ") {
			found = append(found, m.Name)
		}
	}
	switch len(found) {
	case 0:
		return "", fault.Fix(fmt.Errorf("no receiver is named %s", check.Sanitize(name, 80)), "sudo cis490 status   # names them")
	case 1:
		return found[0], nil
	}
	return "", fault.Fix(fmt.Errorf("%d receivers are named %s", len(found), check.Sanitize(name, 80)),
		"sudo cis490 ledger forget '"+check.Sanitize(found[0], 80)+"'   # or another one of cis490 status")
}

// revokeMember ends the renewals of a receiver that was invited, and returns what was done.
func (a *app) revokeMember(c *cli.Context, conf config.Receiver, member string) (string, error) {
	first, _, _ := strings.Cut(member, " ")
	name, err := ident.ParseHost(first)
	if err != nil {
		return "", nil // it was never invited
	}
	if conf.Authority.Elsewhere {
		return "; if it was invited, on the receiver that has the authority: sudo cis490 receiver revoke " + string(name), nil
	}
	client := authority.NewClient(conf.Authority.Socket)
	all, err := client.Receivers(c.Context)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(all, func(i authority.ReceiverInfo) bool { return i.Name == name }) {
		return "", nil
	}
	return ", and revoked it", client.RevokeReceiver(c.Context, name)
}

// ledgerLoad copies the ledgers of the data folder to the config's database, which must be new.
func (a *app) ledgerLoad(c *cli.Context) error {
	conf, _, err := a.ledgerConfig(c)
	if err != nil {
		return err
	}
	if err := becomeOwner(conf.DataDir, roleReceiver); err != nil {
		return err
	}
	back := stored(conf, c.String("config"))
	switch _, used, err := back.Index.Last(); {
	case err != nil:
		return pg.Explain(err)
	case used:
		return fault.Fix(errors.New("the database is not new: it has episodes"), "sudo cis490 ledger status   # which database is it?")
	}
	done, err := storecopy.Others(c.Context, local.Open(local.Options{FS: disk.OS{}, Dir: conf.DataDir}), back, clock.Read(disk.OS{})())
	if err != nil {
		return pg.Explain(err)
	}
	a.printf("loaded %d rows and %d documents\n", done.Others, done.Documents)
	return nil
}

func (a *app) ledgerStatus(c *cli.Context) error {
	_, url, err := a.ledgerConfig(c)
	if err != nil {
		return err
	}
	s, err := pg.ReadStatus(c.Context, url)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		err = a.printJSON(s)
	case s.Schema == 0:
		a.printf("PostgreSQL %s, no schema yet\n", s.Server)
	default:
		a.printf("PostgreSQL %s, schema %d of %d, store %s, about %s episodes\n",
			s.Server, s.Schema, s.Newest, s.StoreID, humanize.Comma(s.Episodes))
	}
	if err == nil && s.Schema < s.Newest {
		err = fault.Fix(errors.New("the database is not up to date"), "sudo cis490 ledger migrate")
	}
	return err
}
