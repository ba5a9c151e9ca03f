package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/urfave/cli/v2"

	labchecks "cis490/agent/checks"
	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/notify"
)

func (a *app) fleetCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "fleet-check",
		Usage:     "find failing hosts, write alerts and log them to the journal",
		ArgsUsage: noArgs,
		Description: "Evaluates the receiver's data about each host and appends alerts with reason and fix\n" +
			"to alerts.jsonl: each at most once an hour, and once when it resolves. The journal\n" +
			"gets the same as a WARNING:\n" +
			"   journalctl -t cis490 -g 'cis490 fleet-alert'\n" +
			"Exit code 0 if it ran, whatever it found.\n\n" +
			"Examples:\n   sudo -u cis490 cis490 fleet-check\n   sudo cis490 fleet-check --dry-run --json\n   cis490 fleet-check " +
			"--dry-run --data-dir ./a-copy",
		Flags: []cli.Flag{
			a.configFlag(roleReceiver), jsonFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "do not write or notify"},
			&cli.StringFlag{Name: "data-dir", Usage: "evaluate `DIR`, a copy of a receiver's data folder (and of its roster.jsonl)"},
		},
		Action: a.fleetCheck,
	}
}

func (a *app) fleetCheck(c *cli.Context) error {
	log, err := a.log(c)
	if err != nil {
		return err
	}
	o, conf, err := a.fleetOptions(c)
	if err != nil {
		return err
	}
	o.Log = log.With("component", "fleet")
	r, err := fleet.Run(o)
	if held, other := errors.AsType[*receiver.HeldError](err); other {
		a.printf("%s checks the fleet\n", held.Holder)
		return nil
	}
	if r.At.IsZero() {
		return err
	}
	if err != nil { // it ran, and its alerts are delivered
		o.Log.Error("cannot write or send all alerts", "err", err)
	}
	var delivered map[string]notify.State
	if !o.DryRun && c.String("data-dir") == "" {
		delivered = a.deliver(c.Context, conf, r, o.Log)
	}
	if c.Bool("json") {
		return errors.Join(r.Failed(), a.printJSON(fleetChecked{r.At, r.Hosts, orEmpty(r.Open), orEmpty(r.Rows), r.Errors, delivered}))
	}
	a.printAlerts(r.Open)
	sent := 0
	for _, x := range r.Rows {
		if x.Symptom != "" { // without the rows that begin an hour
			sent++
		}
	}
	a.printf("%d hosts, %d open, %d new rows\n", r.Hosts, len(r.Open), sent)
	return r.Failed()
}

func (a *app) fleetOptions(c *cli.Context) (fleet.Options, config.Receiver, error) {
	dir := c.String("data-dir")
	conf, unknown, err := config.LoadReceiver(c.String("config"))
	a.warnUnknown(unknown)
	if err != nil && (dir == "" || c.IsSet("config")) {
		return fleet.Options{}, conf, a.elsewhere(c, roleReceiver, err)
	}
	if err != nil {
		conf = config.DefaultReceiver()
	}
	if dir != "" { // a copy of the files
		conf.DataDir, conf.Ledger.Backend = dir, config.LedgerFiles
	}
	now := clock.Read(disk.OS{})()
	o := fleet.Options{
		Source: a.fleetSource(conf, c.String("config")), Limits: fleet.LimitsOf(conf),
		Now: now.Wall, Known: registry(labchecks.Checks(labchecks.Options{})), DryRun: c.Bool("dry-run"), Patience: time.Minute,
	}
	if dir != "" {
		if _, err := (disk.OS{}).Stat(dir); err != nil {
			return o, conf, err
		}
		o.Gate = nil // its config is another one
		o.Present = func() error { return nil }
		if _, err := (disk.OS{}).Stat(filepath.Join(dir, local.RosterFile)); err == nil {
			o.Roster = local.Roster(disk.OS{}, dir)
		}
		o.Syslog = a.tell
		return o, conf, nil
	}
	if dir := a.env.Getenv("RUNTIME_DIRECTORY"); dir != "" {
		o.Spare = local.Folder(disk.OS{}, dir)
	}
	o.Clock = now
	o.Receiver = a.receiverRows(c.Context, roleConfig{roleReceiver, c.String("config")})
	o.Syslog = a.tell
	if a.env.Getenv("INVOCATION_ID") != "" && journal.Enabled() {
		o.Syslog = tellJournal
	}
	return o, conf, nil
}

// receiverRows runs those of the receiver's checks that its own symptoms come
// from, and that can be judged from within the sandbox of fleet-check's unit.
func (a *app) receiverRows(ctx context.Context, p roleConfig) []check.Row {
	_, all := a.receiverChecks(p, false)
	from := []string{
		"receiver.ready", "gate.loaded", "authority.reachable", "server.cert", "units.active", "timers.scheduled",
		"ledger.index", "ledger.alerts", "store.bucket", "store.same", "store.clock", "ledger.postgres", "ledger.feed",
		"cluster.ready", "cluster.agree",
		"rows.files", "notifier.last", "releases.signed", "disk.reserve", "disk.days", "disk.inodes",
		"backup.age",
		"clock.synced",
	}
	return check.Run(ctx, slices.DeleteFunc(all, func(k check.Check) bool { return !slices.Contains(from, k.ID) }))
}

// registry finds a check by its id.
func registry(all []check.Check) func(id string) (check.Check, bool) {
	byID := make(map[string]check.Check, len(all))
	for _, k := range all {
		byID[k.ID] = k
	}
	return func(id string) (check.Check, bool) {
		k, ok := byID[id]
		return k, ok
	}
}

// tell prints an alert if there is no journal.
func (a *app) tell(x fleet.Alert) error {
	_, err := fmt.Fprintln(a.env.Err, x.Line())
	return err
}

// tellJournal says an alert to the journal, which passes it on to syslog, as a
// WARNING with fields to match on. It is found by the identifier: of a process
// that ends this soon, the journal may miss which unit it was.
func tellJournal(x fleet.Alert) error {
	err := journal.Send(string(plain.Escape([]byte(x.Line()))), journal.PriWarning, map[string]string{
		"SYSLOG_IDENTIFIER": "cis490", "CIS490_HOST": x.Host, "CIS490_SYMPTOM": x.Symptom, "CIS490_STATE": x.State,
		"CIS490_REASON": x.Code, "CIS490_FIX": x.Fix,
	})
	if err != nil {
		return errors.Join(errors.New("send alert to the journal"), err)
	}
	return nil
}

// printAlerts prints open alerts for people.
func (a *app) printAlerts(open []fleet.Alert) {
	for _, x := range open {
		mark := ""
		switch {
		case x.Silenced:
			mark = " (silenced)"
		case x.Quiet:
			mark = " (not notified)"
		}
		a.printf(
			"%s %s%s, for %s: %s\n    why: %s\n    fix: %s\n", x.Host, x.Symptom, mark, machine.HumanDuration(time.Since(x.Since)), x.Detail,
			cmp.Or(x.Reason, "-"), cmp.Or(x.Fix, "-"),
		)
	}
}

func orEmpty[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// fleetChecked is a run of fleet-check as --json prints it.
type fleetChecked struct {
	At     time.Time               `json:"at"`
	Hosts  int                     `json:"hosts"`
	Open   []fleet.Alert           `json:"open"`
	Rows   []fleet.Alert           `json:"rows"` // new rows of alerts.jsonl
	Errors []string                `json:"errors,omitempty"`
	Notify map[string]notify.State `json:"notify,omitempty"`
}
