package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/receiver/notify"
)

func (a *app) notifyCommand() *cli.Command {
	return &cli.Command{
		Name: "notify", Usage: "test the notification of alerts",
		Subcommands: []*cli.Command{{
			Name: "test", Usage: "send a test notification to each target of [notify]", ArgsUsage: "[TARGET]",
			Description: "Sends one message to every target, or to one, and prints whether it was delivered. Targets\n" +
				"are named as in the check notifier.last. Exit code 1 if one fails.\n\n" +
				"Examples:\n   sudo cis490 notify test\n   sudo cis490 notify test webhook",
			Flags: []cli.Flag{a.configFlag(roleReceiver), jsonFlag()}, Action: a.notifyTest,
		}},
	}
}

func targetNames(c config.Receiver) []string {
	var names []string
	for _, t := range notify.All(c.Notify) {
		names = append(names, t.Name)
	}
	return names
}

// delivered is the result of a test as --json prints it.
type delivered struct {
	Target string `json:"target"`
	OK     bool   `json:"ok"`
	Error  string `json:"error,omitempty"`
}

func (a *app) notifyTest(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) > 1 {
		return usagef(c, "unexpected argument %q", args[1])
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	targets := notify.All(conf.Notify)
	if len(args) == 1 {
		i := slices.IndexFunc(targets, func(t notify.Target) bool { return t.Name == args[0] })
		if i < 0 {
			return usagef(c, "[notify] has no target %q%s", args[0], meant("", args[0], targetNames(conf)))
		}
		targets = targets[i : i+1]
	}
	if len(targets) == 0 {
		return fault.Exit(fault.Fix(errors.New("[notify] has no target"),
			fmt.Sprintf("echo 'ntfy://ntfy.sh/TOPIC' | sudo install -m 640 -g cis490 /dev/stdin %s", config.NotifyURLsPath)), fault.Config)
	}
	results := a.sendTests(c.Context, targets)
	if c.Bool("json") {
		err = a.printJSON(results)
	} else {
		a.printTests(results, c.String("config"))
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r delivered) bool { return !r.OK }) {
		return verdict()
	}
	return nil
}

// sendTests sends each target a test message.
func (a *app) sendTests(ctx context.Context, targets []notify.Target) []delivered {
	results := []delivered{}
	for _, t := range targets {
		r := delivered{Target: t.Name, OK: true}
		if err := notify.SendTest(ctx, t, time.Now()); err != nil {
			r = delivered{t.Name, false, fault.Text(err)}
		}
		results = append(results, r)
	}
	return results
}

func (a *app) printTests(results []delivered, config string) {
	for _, r := range results {
		if r.OK {
			a.printf("%s: delivered\n", r.Target)
		} else {
			a.printf("%s: failed: %s\n", r.Target, r.Error)
			a.printf("    correct its address in [notify] of %s, or in the file that it names; then: sudo cis490 notify test %s\n", config, r.Target)
		}
	}
}
