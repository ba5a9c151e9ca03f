package commands

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver/local"
)

func (a *app) dataTokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "data-token",
		Usage: "let people and programs read the data over HTTPS",
		Subcommands: []*cli.Command{{
			Name:      "create",
			Usage:     "create a token that can only list, download and export episodes",
			ArgsUsage: "NAME",
			Description: "The token is printed once; only its digest is stored. NAME names its owner, in the\n" +
				"form of a host name.\n\nExample:\n   sudo cis490 data-token create ada",
			Flags:  []cli.Flag{a.configFlag(roleReceiver)},
			Action: a.dataTokenCreate,
		}, {
			Name:        "list",
			Usage:       "list the names of data tokens",
			ArgsUsage:   noArgs,
			Description: "Example:\n   sudo cis490 data-token list",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action:      a.dataTokenList,
		}, {
			Name:        "revoke",
			Usage:       "revoke a data token",
			ArgsUsage:   "NAME",
			Description: "Example:\n   sudo cis490 data-token revoke ada",
			Flags:       []cli.Flag{a.configFlag(roleReceiver)},
			Action:      a.dataTokenRevoke,
		}},
	}
}

// changeDataTokens replaces the file of the data tokens.
func (a *app) changeDataTokens(c *cli.Context, change func(name string, all []local.DataToken) ([]local.DataToken, error)) error {
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
	fsys := disk.OS{}
	all, err := local.ReadDataTokens(fsys, conf)
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
	path := local.DataTokensPath(conf)
	err = disk.ReplaceBytes(fsys, path, like.Mode().Perm(), append(b, '\n'))
	if st, ok := like.Sys().(*syscall.Stat_t); ok && err == nil {
		err = fsys.Chown(path, int(st.Uid), int(st.Gid))
	}
	if err != nil {
		return fault.Fix(err, "run it again with sudo")
	}
	return nil
}

func (a *app) dataTokenCreate(c *cli.Context) error {
	raw := make([]byte, 24)
	_, _ = rand.Read(raw) // never fails
	token := "cis490-data-" + hex.EncodeToString(raw)
	err := a.changeDataTokens(c, func(name string, all []local.DataToken) ([]local.DataToken, error) {
		if slices.ContainsFunc(all, func(t local.DataToken) bool { return t.Name == name }) {
			return nil, fault.Fix(fmt.Errorf("there is a data token %s already", name), "sudo cis490 data-token revoke "+name)
		}
		sum := sha256.Sum256([]byte(token))
		return append(all, local.DataToken{Name: name, Digest: ident.Digest(hex.EncodeToString(sum[:])), Created: time.Now().UTC()}), nil
	})
	if err != nil {
		return err
	}
	a.printf("%s\n", token)
	a.errorf("keep it: it is not shown again. Use it with: cis490 export --url URL --token-file FILE --out DIR")
	return nil
}

func (a *app) dataTokenRevoke(c *cli.Context) error {
	err := a.changeDataTokens(c, func(name string, all []local.DataToken) ([]local.DataToken, error) {
		left := slices.DeleteFunc(slices.Clone(all), func(t local.DataToken) bool { return t.Name == name })
		if len(left) == len(all) {
			return nil, fault.Fix(fmt.Errorf("there is no data token %s", name), "sudo cis490 data-token list")
		}
		return left, nil
	})
	if err == nil {
		a.printf("revoked data token %s\n", c.Args().First())
	}
	return err
}

func (a *app) dataTokenList(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	all, err := local.ReadDataTokens(disk.OS{}, conf)
	if err != nil {
		return fault.Fix(err, "run it again with sudo")
	}
	if c.Bool("json") {
		if all == nil {
			all = []local.DataToken{}
		}
		return a.printJSON(all)
	}
	if len(all) == 0 {
		a.errorf("no data tokens")
		return nil
	}
	return a.table("NAME\tCREATED", func(row func(...any)) {
		for _, t := range all {
			row(t.Name, t.Created.UTC().Format("2006-01-02 15:04:05 MST"))
		}
	})
}
