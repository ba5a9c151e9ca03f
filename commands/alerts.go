package commands

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	labchecks "cis490/agent/checks"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver/fleet"
)

func (a *app) alertsCommand() *cli.Command {
	return &cli.Command{
		Name:  "alerts",
		Usage: "list and silence alerts",
		Subcommands: []*cli.Command{{
			Name:      "list",
			Usage:     "list open alerts with reason and fix",
			ArgsUsage: noArgs,
			Description: "Lists the alerts that the last fleet-check found. With --all, lists the rows of\nalerts.jsonl, " +
				"including resolved alerts.\n\nExamples:\n   sudo cis490 alerts list\n   sudo cis490 alerts list --all --since 168h --json",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver), jsonFlag(),
				&cli.BoolFlag{Name: "all", Usage: "list every row of alerts.jsonl, not only open alerts"},
				&cli.DurationFlag{Name: "since", Value: 24 * time.Hour, Usage: "with --all: list rows of the last `DURATION`"},
			},
			Action: a.alertsList,
		}, a.alertsSilenceCommand()},
	}
}

func (a *app) alertsList(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if c.Bool("all") {
		return a.alertsHistory(c, conf)
	}
	last, err := read(c.Context, conf, readAlerts, func() (fleet.Last, error) { return a.lastRun(conf, c.String("config")) })
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(orEmpty(last.Open))
	}
	a.printAlerts(last.Open)
	a.printf("%s\n", watched(last))
	return nil
}

// lastRun reads the last run of fleet-check. serve's user can write that file, so lastRun
// keeps only fixes that this program has itself.
func (a *app) lastRun(conf config.Receiver, path string) (fleet.Last, error) {
	last, err := fleet.ReadOpen(stored(conf, path), time.Now())
	_, checks := a.receiverChecks(roleConfig{roleReceiver, path}, false)
	last.Open = fleet.OwnFixes(last.Open, append(checks, labchecks.Checks(labchecks.Options{})...))
	return last, err
}

// watched returns how many alerts are open, and when they were checked.
func watched(last fleet.Last) string {
	switch age := time.Since(last.At); {
	case last.At.IsZero():
		return "fleet-check has not run yet: it runs every 5 minutes"
	case age > 3*machine.FleetCheckEvery:
		return openAlerts(len(last.Open)) + " when fleet-check last ran, " + machine.HumanDuration(age) + " ago: it should run every 5 minutes"
	default:
		return openAlerts(len(last.Open)) + ", checked " + machine.HumanDuration(age) + " ago"
	}
}

func openAlerts(n int) string {
	if n == 1 {
		return "1 open alert"
	}
	return fmt.Sprintf("%d open alerts", n)
}

func (a *app) alertsHistory(c *cli.Context, conf config.Receiver) error {
	from := time.Now().Add(-c.Duration("since"))
	rows, err := read(c.Context, conf, readSince(from), func() ([]fleet.Alert, error) { return alertsSince(conf, c.String("config"), from) })
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(rows)
	}
	for _, x := range rows {
		a.printf("%s  %-8s  %s %s  %s\n", plain.Time(x.At), x.State, x.Host, x.Symptom, x.Reason)
	}
	if len(rows) == 0 {
		a.printf("no alerts since %s\n", plain.Time(from))
	}
	return nil
}

// alertsSince returns the rows of alerts.jsonl from a time on.
func alertsSince(conf config.Receiver, path string, from time.Time) ([]fleet.Alert, error) {
	if _, err := (disk.OS{}).Stat(conf.DataDir); errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	rows := []fleet.Alert{}
	for x, err := range stored(conf, path).Alerts.Since(from) {
		if err != nil {
			return nil, err
		}
		if x.Symptom != "" { // else it begins an hour
			rows = append(rows, x)
		}
	}
	return rows, nil
}
