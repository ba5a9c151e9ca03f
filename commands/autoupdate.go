package commands

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/install"
	"cis490/internal/fault"
)

func (a *app) autoupdateCommand() *cli.Command {
	return &cli.Command{
		Name:      "autoupdate",
		Usage:     "keep this machine in the state that its version describes",
		ArgsUsage: " ",
		Description: "The timer runs it every few minutes. It mends what differs from what this version\n" +
			"installs: a unit edited by hand, a service that was disabled, a folder with another\n" +
			"owner. Drop-ins, masked units and the config are the site's and left alone. It\n" +
			"brings no new version yet: that takes a binary and 'install' by hand.\n\n" +
			"Examples:\n   sudo cis490 autoupdate\n   cis490 autoupdate --check",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "print what differs and change nothing; exit code 1 if anything does"}},
		Action: a.autoupdate,
	}
}

func (a *app) autoupdate(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if err := install.Supported(); err != nil {
		return err
	}
	if !c.Bool("check") {
		if err := requireRoot("autoupdate"); err != nil {
			return err
		}
	}
	binary, err := installedBinary()
	if err != nil {
		return err
	}
	var errs []error
	drifted, roles := 0, 0
	for _, role := range install.Roles("") {
		roles++
		plan, err := install.New(install.Options{Role: role, Binary: binary, Build: a.env.Build, Out: a.env.Out, Manager: install.Systemd()})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if c.Bool("check") {
			n, err := plan.Drift(c.Context)
			drifted += n
			errs = append(errs, err)
			continue
		}
		errs = append(errs, plan.Apply(c.Context))
	}
	if roles == 0 {
		return fault.Exit(fault.Fix(errors.New("this machine has no role yet"), "sudo ./cis490 install lab-host --join -   # or: install receiver"), fault.Config)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if drifted > 0 {
		return verdict()
	}
	return nil
}

// installedBinary returns the path of this binary, which must be an installed
// one: a copy from elsewhere would install itself by the way.
func installedBinary() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	if !strings.HasPrefix(path, "/opt/cis490/versions/") {
		return "", fault.Exit(fault.Fix(fmt.Errorf("%s is not an installed binary", path), "sudo /usr/local/bin/cis490 autoupdate"), fault.Usage)
	}
	return path, nil
}
