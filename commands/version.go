package commands

import "github.com/urfave/cli/v2"

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "tell which build this is",
		ArgsUsage:   " ",
		Description: "The commit is what the gate judges: an episode carries that of the binary that\nrecorded it.\n\nExample:\n   cis490 version --json",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			b := a.env.Build
			if c.Bool("json") {
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
		},
	}
}
