package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
)

// jsonFlag is the --json flag.
func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the result as JSON"}
}

// labHost loads the lab host's config and prints warnings for unknown keys, because a
// rolled-back binary must accept a newer file.
func (a *app) labHost(c *cli.Context) (config.LabHost, error) {
	conf, unknown, err := config.LoadLabHost(c.String("config"))
	a.warnUnknown(unknown)
	return conf, a.elsewhere(c, roleLabHost, err)
}

// receiver is labHost for the receiver's config.
func (a *app) receiver(c *cli.Context) (config.Receiver, error) {
	conf, unknown, err := config.LoadReceiver(c.String("config"))
	a.warnUnknown(unknown)
	return conf, a.elsewhere(c, roleReceiver, err)
}

func (a *app) warnUnknown(unknown []*config.Error) {
	for _, e := range unknown {
		a.errorf("warning: %v", e)
	}
}

func (a *app) configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "check the config files",
		Subcommands: []*cli.Command{{
			Name:      "check",
			Usage:     "print all errors in the config files, with file, line and column",
			ArgsUsage: noArgs,
			Description: "Without a flag it checks the config files of this machine. Unknown keys are errors\n" +
				"here, but only warnings for daemons. Exit code 78 if there is any error. --online also tests\n" +
				"the services that the config names, and sends each notify target a test message; exit code 1\n" +
				"if one fails.\n\n" +
				"Examples:\n   cis490 config check\n   sudo cis490 config check --online\n   cis490 config check --lab-host ./lab-host.toml",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "lab-host", Usage: "check `FILE` as a lab host's config"},
				&cli.StringFlag{Name: "receiver", Usage: "check `FILE` as a receiver's config"},
				&cli.BoolFlag{Name: "online", Usage: "also test the services that it names: receiver and authority, or store and notify targets"},
			},
			Action: a.configCheck,
		}},
	}
}

func (a *app) configCheck(c *cli.Context) error {
	lab, rx := c.String("lab-host"), c.String("receiver")
	if lab == "" && rx == "" {
		lab, rx = ifExists(a.configPath(roleLabHost)), ifExists(a.configPath(roleReceiver))
	}
	if lab == "" && rx == "" {
		return noRole()
	}
	var all []error
	if lab != "" {
		_, unknown, err := config.LoadLabHost(lab)
		all = append(all, a.checked(lab, unknown, err))
	}
	if rx != "" {
		_, unknown, err := config.LoadReceiver(rx)
		all = append(all, a.checked(rx, unknown, err))
	}
	if err := errors.Join(all...); err != nil || !c.Bool("online") {
		return err
	}
	return a.tryConfig(c, lab, rx)
}

// checked prints that a file is valid, or returns all errors in it.
func (a *app) checked(path string, unknown []*config.Error, err error) error {
	if err != nil && len(unknown) == 0 {
		return err // with its own fix
	}
	all := []error{err}
	for _, e := range unknown {
		all = append(all, e)
	}
	if err := errors.Join(all...); err != nil {
		return fault.Exit(fault.Fix(err, fmt.Sprintf("edit %s, then: cis490 config check", path)), fault.Config)
	}
	a.printf("%s: ok", path)
	for _, role := range []string{roleLabHost, roleReceiver} {
		if path == a.configPath(role) {
			a.printf("; to apply it: sudo cis490 install %s", role)
		}
	}
	a.printf("\n")
	return nil
}

func ifExists(path string) string {
	if _, err := (disk.OS{}).Stat(path); err != nil {
		return ""
	}
	return path
}
