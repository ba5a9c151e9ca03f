package commands

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"cis490/agent/client"
	"cis490/internal/check"
	"cis490/internal/fault"
	"cis490/internal/wire"
)

func (a *app) healthCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "health-check",
		Usage:     "run doctor on this lab host and send the report to the receiver",
		ArgsUsage: noArgs,
		Description: "The receiver keeps the last health report of each host, whatever version the host runs.\n" +
			"Exit code 0 if it was sent and no check fails, 1 if a check fails or the receiver\n" +
			"rejects it, 69 if the receiver is unreachable.\n\n" +
			"Example:\n   sudo -u cis490 cis490 health-check",
		Flags:  []cli.Flag{a.configFlag(roleLabHost)},
		Action: a.healthCheck,
	}
}

func (a *app) healthCheck(c *cli.Context) error {
	conf, err := a.labHost(c)
	if err != nil {
		return err
	}
	report := a.examine(c.Context, a.checksOf(roleConfig{roleLabHost, c.String("config")}, false))
	body, err := snapshot(report)
	if err != nil {
		return err
	}
	cl, err := client.New(conf, a.env.Build)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.PutHealth(c.Context, body); err != nil {
		err = fmt.Errorf("send health report: %w", err)
		if p := client.Refusal(err); p != nil {
			return fault.Fix(err, p.Fix)
		}
		if errors.Is(err, client.ErrNoCredentials) {
			return fault.Exit(err, fault.TempFail)
		}
		return fault.Exit(fault.Fix(err, "cis490 doctor --only dns.receiver --only receiver.reachable"), fault.Unavailable)
	}
	a.printf("health report sent to %s: %s\n", conf.Receiver.URL, tally(report))
	for _, row := range report.Checks {
		if row.Status == check.Fail {
			a.printf("  FAIL  %s: %s: %s\n        fix: %s\n", row.ID, row.Title, row.Detail, row.Fix)
		}
	}
	if report.Summary.Fail > 0 {
		return verdict()
	}
	return nil
}

// snapshot encodes a report within the size limit of the receiver. It drops the details of
// passing checks first.
func snapshot(r check.Report) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil || len(b) <= wire.MaxSnapshot {
		return b, err
	}
	rows := append([]check.Row(nil), r.Checks...)
	for i := range rows {
		if rows[i].Fix == "" {
			rows[i].Detail = ""
		}
	}
	r.Checks = rows
	return json.Marshal(r)
}
