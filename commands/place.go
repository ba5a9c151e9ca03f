package commands

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
)

// configPath returns the path of a role's config file on this machine.
func (a *app) configPath(role string) string {
	path := config.LabHostPath
	if role == roleReceiver {
		path = config.ReceiverPath
	}
	return filepath.Join(cmp.Or(a.env.Etc, filepath.Dir(path)), filepath.Base(path))
}

// configFlag is the --config flag of a command for one role.
func (a *app) configFlag(role string) cli.Flag {
	return &cli.StringFlag{Name: "config", Value: a.configPath(role), EnvVars: []string{"CIS490_CONFIG"}, Usage: "read `FILE`"}
}

// hasRole reports whether this machine has a role's config file.
func (a *app) hasRole(role string) bool {
	_, err := (disk.OS{}).Lstat(a.configPath(role))
	return !errors.Is(err, fs.ErrNotExist)
}

// elsewhere returns the error of a command that does not belong on this machine, or err if
// the config file is missing for another reason.
func (a *app) elsewhere(c *cli.Context, role string, err error) error {
	path := c.String("config")
	if !errors.Is(err, fs.ErrNotExist) || path != a.configPath(role) {
		return err
	}
	return a.belongsOn(c, role)
}

// belongsOn returns the error of a command for a role that this machine does not have.
func (a *app) belongsOn(c *cli.Context, role string) error {
	other := roleReceiver
	if role == roleReceiver {
		other = roleLabHost
	}
	command := c.Command.HelpName
	if a.hasRole(other) {
		err := fmt.Errorf("%s belongs on the %s; this machine is a %s", command, title(role), title(other))
		fix := "on the " + title(role) + ": sudo " + strings.Join(append([]string{command}, c.Args().Slice()...), " ")
		if slices.Contains([]string{"serve", "bootstrap", "orchestrate", "ship"}, c.Command.Name) {
			fix = "nothing: systemd runs it on the " + title(role)
		}
		return fault.Exit(fault.Fix(err, fix), fault.Config)
	}
	err := fmt.Errorf("%s belongs on the %s; this machine has no role yet", command, title(role))
	return fault.Exit(fault.Fix(err, setUp(role)), fault.Config)
}

// title returns a role as people say it.
func title(role string) string {
	if role == roleLabHost {
		return "lab host"
	}
	return role
}

// setUp returns the command that gives this machine a role.
func setUp(role string) string {
	if role == roleReceiver {
		return "sudo cis490 install receiver --public-url URL   # makes this machine the receiver"
	}
	return "sudo cis490 install lab-host --join -   # makes this machine a lab host, with a token of the receiver"
}

// errNoRole means that this machine has no config file.
var errNoRole = errors.New("this machine has no role yet: no config file in /etc/cis490")

// noRole is the error of a command that needs any role.
func noRole() error {
	return fault.Exit(fault.Fix(errNoRole,
		setUp(roleLabHost)+"\n"+setUp(roleReceiver)), fault.Config)
}
