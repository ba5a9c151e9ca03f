package commands

import "github.com/urfave/cli/v2"

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print the version and commit of this build",
		ArgsUsage: noArgs,
		Description: "The gate decides by the commit: an episode carries the commit of the binary that\n" +
			"recorded it.\n\nExample:\n   cis490 version --json",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			return a.printVersion(c.Bool("json"))
		},
	}
}

func (a *app) printVersion(asJSON bool) error {
	b := a.env.Build
	if asJSON {
		return a.printJSON(b)
	}
	commit, dirty := string(b.Commit), ""
	if commit == "" {
		commit = "none (build with 'make build')"
	}
	if b.Dirty {
		dirty = " (with uncommitted changes)"
	}
	a.printf("cis490 %s\ncommit %s%s\n%s %s/%s\n", b.Version, commit, dirty, b.Go, b.OS, b.Arch)
	return nil
}
