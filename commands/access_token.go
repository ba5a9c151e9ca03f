package commands

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/local"
)

func (a *app) accessTokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "access-token",
		Usage: "let people and programs use the receiver over HTTPS",
		Subcommands: []*cli.Command{{
			Name:      "create",
			Usage:     "create a token with a role: data, read, operate or release",
			ArgsUsage: "NAME",
			Description: "Prints the token once; only its digest is stored. NAME names its owner, and is logged\n" +
				"with each change. The roles, of which each includes those before it:\n" +
				"   data     list, download and export episodes\n" +
				"   read     see the dashboard, alerts and metrics\n" +
				"   operate  silence alerts and write notes about hosts\n" +
				"   release  promote and withdraw releases\n\n" +
				"Examples:\n   sudo cis490 access-token create ada --role data\n   sudo cis490 access-token create grafana",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver),
				&cli.StringFlag{Name: "role", Value: string(receiver.Read), Usage: "what it allows, as `ROLE`: data, read, operate or release"},
			},
			Action: a.accessTokenCreate,
		}, {
			Name:        "list",
			Usage:       "list tokens by name, with their roles",
			ArgsUsage:   noArgs,
			Description: "Example:\n   sudo cis490 access-token list",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action:      a.accessTokenList,
		}, {
			Name:        "revoke",
			Usage:       "revoke a token",
			ArgsUsage:   "NAME",
			Description: "Example:\n   sudo cis490 access-token revoke ada",
			Flags:       []cli.Flag{a.configFlag(roleReceiver)},
			Action:      a.accessTokenRevoke,
		}},
	}
}

// changeAccessTokens replaces the file of the tokens.
func (a *app) changeAccessTokens(c *cli.Context, change func(name string, all []receiver.Token) ([]receiver.Token, error)) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return usagef(c, "want one NAME")
	}
	if _, err := ident.ParseHost(args[0]); err != nil {
		return usagef(c, "NAME: %v", err)
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	fsys, path := disk.OS{}, local.TokensPath(conf)
	lock, err := fsys.LockFile(path+".lock", 0o600) // otherwise one of two commands could undo a revocation
	if errors.Is(err, disk.ErrLocked) {
		return fault.Exit(fault.Fix(errors.New("another command is changing the access tokens"), "run it again"), fault.TempFail)
	}
	if err != nil {
		return fault.Fix(err, "run it again with sudo")
	}
	defer func() { _ = lock.Close() }() // has no content
	all, err := local.ReadTokens(fsys, conf)
	if err != nil {
		return fault.Fix(err, "run it again with sudo")
	}
	if all, err = change(args[0], all); err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	// Serve reads it as it reads the operator token: by the file's group.
	like, err := fsys.Lstat(conf.Operator)
	if err != nil {
		return fault.Fix(fmt.Errorf("look up the group of serve: %w", err), "sudo cis490 install receiver")
	}
	st, ok := like.Sys().(*syscall.Stat_t)
	err = disk.Replace(fsys, path, like.Mode().Perm(), func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		if f, isFile := w.(*os.File); isFile && ok && err == nil {
			err = f.Chown(int(st.Uid), int(st.Gid)) // before the file has its name: serve reads it at each request
		}
		return err
	})
	if err != nil {
		return fault.Fix(err, "run it again with sudo")
	}
	return local.RemoveOlderTokens(fsys, conf)
}

func (a *app) accessTokenCreate(c *cli.Context) error {
	var role receiver.Role
	var token string
	raw := make([]byte, 24)
	_, _ = rand.Read(raw) // never fails
	err := a.changeAccessTokens(c, func(name string, all []receiver.Token) ([]receiver.Token, error) {
		role = receiver.Role(c.String("role")) // the flag may be after NAME
		if !slices.Contains(receiver.Roles(), role) {
			return nil, usagef(c, "unknown role %q: want data, read, operate or release", check.Sanitize(string(role), 40))
		}
		if name == "operator" {
			return nil, usagef(c, "NAME: operator is the name of the token in the operator_file of the config: choose another")
		}
		if slices.ContainsFunc(all, func(t receiver.Token) bool { return t.Name == name }) {
			return nil, fault.Fix(fmt.Errorf("%s has a token already", name), "sudo cis490 access-token revoke "+name)
		}
		token = fmt.Sprintf("cis490-%s-%x", role, raw)
		return append(all, receiver.Token{Name: name, Role: role, Digest: receiver.DigestOf(token), Created: time.Now().UTC()}), nil
	})
	if err != nil {
		return err
	}
	a.printf("%s\n", token)
	use := "sign in with it on the dashboard, or send it as Authorization: Bearer"
	if role == receiver.ReadData {
		use = "use it with: cis490 export --url URL --token-file FILE --out DIR"
	}
	a.errorf("keep it: it is not shown again; %s", use)
	return nil
}

func (a *app) accessTokenRevoke(c *cli.Context) error {
	err := a.changeAccessTokens(c, func(name string, all []receiver.Token) ([]receiver.Token, error) {
		left := slices.DeleteFunc(slices.Clone(all), func(t receiver.Token) bool { return t.Name == name })
		if len(left) == len(all) {
			return nil, fault.Fix(fmt.Errorf("%s has no token", name), "sudo cis490 access-token list")
		}
		return left, nil
	})
	if err == nil {
		a.printf("revoked the token of %s\n", c.Args().First())
	}
	return err
}

func (a *app) accessTokenList(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	all, err := local.ReadTokens(disk.OS{}, conf)
	if err != nil {
		return fault.Fix(err, "run it again with sudo")
	}
	if c.Bool("json") {
		if all == nil {
			all = []receiver.Token{}
		}
		return a.printJSON(all)
	}
	if len(all) == 0 {
		a.errorf("no tokens but the operator's")
		return nil
	}
	return a.table("NAME\tROLE\tCREATED", func(row func(...any)) {
		for _, t := range all {
			row(t.Name, t.Role, plain.Time(t.Created))
		}
	})
}
