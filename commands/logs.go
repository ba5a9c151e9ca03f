package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver/local"
)

func (a *app) logsCommand() *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "print the logs of this machine's services",
		ArgsUsage: "[HOST]",
		Description: "Prints lines of the journal. On the receiver, HOST selects the receiver's lines about\n" +
			"that host; the host's own logs are in its own journal.\n\n" +
			"Examples:\n   sudo cis490 logs --warnings\n   sudo cis490 logs -n 20 --follow\n   sudo cis490 logs lab-07 --since 24h",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "since", Value: time.Hour, Usage: "print lines of the last `DURATION`"},
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, DefaultText: "all", Usage: "print only the last `N` of these lines"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "continue with new lines"},
			&cli.BoolFlag{Name: "warnings", Usage: "only warnings and errors"},
		},
		Action: a.logs,
	}
}

func (a *app) logs(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) > 1 {
		return usagef(c, "want at most one HOST")
	}
	match := "--unit=cis490-*"
	if len(args) == 1 {
		h, err := ident.ParseHost(args[0])
		if err != nil {
			return usagef(c, "%w", err)
		}
		if !a.hasRole(roleReceiver) {
			return a.belongsOn(c, roleReceiver)
		}
		if conf, _, err := config.LoadReceiver(a.configPath(roleReceiver)); err == nil {
			if _, known, err := local.Roster(disk.OS{}, conf.Authority.Dir).Host(h); err == nil && !known {
				return suggestHost(conf, h, notInFleet(h))
			}
		}
		match = "CIS490_HOST=" + string(h)
	}
	if c.Duration("since") <= 0 {
		return usagef(c, "--since: want a duration above 0, such as 24h")
	}
	lines := "all"
	if c.IsSet("lines") {
		if c.Int("lines") <= 0 {
			return usagef(c, "--lines: want a number above 0")
		}
		lines = strconv.Itoa(c.Int("lines"))
	}
	o := []string{"--no-pager", "--utc", "--output=short-full", sinceArg(c.Duration("since")), "--lines=" + lines}
	if c.Bool("follow") {
		o = append(o, "--follow")
	}
	if c.Bool("warnings") {
		o = append(o, "--priority=warning")
	}
	if !readsJournal() {
		err := errors.New("only root and members of the group systemd-journal may read the journal")
		return fault.Exit(fault.Fix(err, "run it again with sudo; or to read without: sudo usermod -aG systemd-journal USER, and log in again"),
			fault.NoPerm)
	}
	return journalctl(c.Context, a.env.Out, a.env.Err, append(o, match)...)
}

// readsJournal reports whether this user may read the system's journal. Otherwise journalctl
// prints the user's own, which is empty.
func readsJournal() bool {
	mine, err := os.Getgroups()
	if err != nil || os.Geteuid() == 0 {
		return true
	}
	return slices.ContainsFunc([]string{"systemd-journal", "adm", "wheel"}, func(name string) bool {
		g, err := user.LookupGroup(name)
		return err == nil && slices.ContainsFunc(mine, func(gid int) bool { return strconv.Itoa(gid) == g.Gid })
	})
}

func sinceArg(d time.Duration) string { return fmt.Sprintf("--since=@%d", time.Now().Add(-d).Unix()) }

// journalctl runs journalctl(1). It ends with the context.
func journalctl(ctx context.Context, out, errs io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fault.Fix(errors.New("journalctl is not on this machine"), "ls /var/log   # where a machine without systemd logs")
	case err != nil:
		return fmt.Errorf("journalctl: %w", err)
	}
	return nil
}
