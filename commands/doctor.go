package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/install"
	"cis490/internal/check"
	"cis490/internal/fault"
	"cis490/internal/machine"
)

func (a *app) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "check this machine and print how to fix problems",
		ArgsUsage: noArgs,
		Description: "Runs every check of the machine's role and prints, for each problem, the commands that\n" +
			"fix it and where to run them. Some checks need root; without it they are skipped.\n" +
			"Failures come first, then warnings; --all also lists the checks that passed or were skipped.\n" +
			"Exit code 1 if a check fails, with --strict also on warnings. --json prints one document\n" +
			"per role, described in docs/doctor.schema.json. docs/checks.md explains each check.\n\n" +
			"Examples:\n   sudo cis490 doctor\n" +
			"   sudo cis490 doctor --json | jq '.checks[] | select(.status == \"fail\")'\n" +
			"   cis490 doctor --only cert.expiry --only dns.receiver",
		Flags: append(roleFlags(), jsonFlag(),
			&cli.StringSliceFlag{Name: "only", Usage: "run only the check `CHECK`; may be repeated"},
			&cli.BoolFlag{Name: "all", Usage: "also print the checks that passed or were skipped"},
			&cli.BoolFlag{Name: "list", Usage: "list the checks without running them"},
			&cli.BoolFlag{Name: "strict", Usage: "treat warnings as failures"},
			&cli.BoolFlag{Name: "fix", Usage: "first make and print all safe repairs, including those of install"},
			&cli.BoolFlag{Name: "deep", Usage: "on a receiver: compare every row of the index with its file"},
		),
		Action: a.doctor,
	}
}

// roleChecks is a role's registry, with the header of its reports.
type roleChecks struct {
	role, host string
	checks     []check.Check
}

// checksOf returns the registry of a role on this machine.
func (a *app) checksOf(p roleConfig, deep bool) roleChecks {
	if p.role == roleReceiver {
		o, checks := a.receiverChecks(p, deep)
		return roleChecks{p.role, named(o.Config.PublicURL, o.Err), checks}
	}
	o, checks := a.labHostChecks(p)
	return roleChecks{p.role, named(o.Config.Host, o.Err), checks}
}

// named returns the host name of a valid config. In an invalid one it may be a misplaced
// secret.
func named(name string, err error) string {
	if err != nil {
		return ""
	}
	return name
}

// examine runs the checks.
func (a *app) examine(ctx context.Context, w roleChecks) check.Report {
	r := check.Report{
		Schema: check.Schema, Host: w.host, Role: w.role, Version: a.env.Build.Version, Commit: string(a.env.Build.Commit),
		At: time.Now().UTC().Truncate(time.Second),
	}
	r.Checks = check.Run(ctx, w.checks)
	r.Summary = check.Summarize(r.Checks)
	return r
}

func (a *app) doctor(c *cli.Context) error {
	places, err := a.roles(c)
	if c.Bool("list") && c.String("role") == "" && c.String("config") == "" { // even without a role
		places, err = []roleConfig{{roleLabHost, a.configPath(roleLabHost)}, {roleReceiver, a.configPath(roleReceiver)}}, nil
	}
	if errors.Is(err, errNoRole) {
		return a.doctorWithoutRole(c)
	}
	if err != nil {
		return err
	}
	var selected []roleChecks
	for _, p := range places {
		selected = append(selected, a.checksOf(p, c.Bool("deep")))
	}
	if err := only(c, selected); err != nil {
		return err
	}
	bad := false
	for i, w := range selected {
		if c.Bool("list") {
			a.listChecks(w, c.Bool("json"))
			continue
		}
		if c.Bool("fix") {
			if places[i].installed() && len(c.StringSlice("only")) == 0 {
				a.reinstall(c.Context, install.Role(w.role))
			}
			a.repair(c.Context, w)
		}
		r := a.examine(c.Context, w)
		if w.role == roleReceiver {
			askServeForRows(c.Context, places[i].path, &r)
		}
		bad = bad || r.Summary.Fail > 0 || (c.Bool("strict") && r.Summary.Warn > 0)
		if c.Bool("json") {
			if err := a.printJSON(r); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			a.printf("\n")
		}
		all := c.Bool("all") || len(c.StringSlice("only")) > 0
		writeReport(a.env.Out, r, a.terminal(a.env.Out), all)
	}
	if bad {
		return verdict()
	}
	return nil
}

// doctorWithoutRole reports that this machine has no role, with the commands that give it
// one. The exit code is that of a missing config.
func (a *app) doctorWithoutRole(c *cli.Context) error {
	r := a.examine(c.Context, roleChecks{roleNone, "", []check.Check{{
		ID: "config.valid", Title: "Config is valid", Severity: check.Hard,
		Fix: "on the receiver: sudo cis490 token create NAME   # then paste what it prints on this machine; or make this machine the receiver: " +
			"sudo cis490 install receiver --public-url URL",
		Run: func(context.Context) check.Result { return check.Failf("%v", errNoRole) },
	}}})
	if c.Bool("json") {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		writeReport(a.env.Out, r, a.terminal(a.env.Out), true)
	}
	return fault.Exit(errQuiet, fault.Config)
}

// only keeps the checks of --only. An id that no role has is an error.
func only(c *cli.Context, selected []roleChecks) error {
	wanted := c.StringSlice("only")
	if len(wanted) == 0 {
		return nil
	}
	for _, id := range wanted {
		if !slices.ContainsFunc(selected, func(w roleChecks) bool {
			return slices.ContainsFunc(w.checks, func(k check.Check) bool { return k.ID == id })
		}) {
			var ids []string
			for _, w := range selected {
				for _, k := range w.checks {
					ids = append(ids, k.ID)
				}
			}
			return usagef(c, "unknown check %q%s: see cis490 doctor --list", check.Sanitize(id, 80), meant("", id, ids))
		}
	}
	for i := range selected {
		selected[i].checks = slices.DeleteFunc(selected[i].checks, func(k check.Check) bool { return !slices.Contains(wanted, k.ID) })
	}
	return nil
}

// checkListed is a check as `doctor --list --json` prints it.
type checkListed struct {
	Role     string         `json:"role"`
	ID       string         `json:"id"`
	Severity check.Severity `json:"severity"`
	Title    string         `json:"title"`
	Fix      string         `json:"fix"`
	Docs     string         `json:"docs"`
}

func (a *app) listChecks(w roleChecks, asJSON bool) {
	all := []checkListed{}
	for _, k := range w.checks {
		all = append(all, checkListed{w.role, k.ID, k.Severity, k.Title, k.Fix, "docs/checks.md#" + w.role + "." + k.ID})
	}
	if asJSON {
		_ = a.printJSON(all)
		return
	}
	for _, e := range all {
		a.printf("%-9s %-4s  %-20s %s\n", e.Role, e.Severity, e.ID, e.Title)
	}
}

// reinstall repairs the installation of a role as install does, if anything differs. It
// needs root; the installed binary stays.
func (a *app) reinstall(ctx context.Context, role install.Role) {
	if os.Geteuid() != 0 {
		a.errorf("warning: installation not compared: it needs root")
		return
	}
	if _, err := installedBinary(); err != nil {
		a.errorf("warning: installation not compared: this is not the installed program: sudo /usr/local/bin/cis490 doctor --fix")
		return
	}
	plan, err := install.New(install.Options{
		Role: role, Binary: filepath.Join(installDir, "current", "cis490"), Build: a.env.Build, Out: a.env.Err, Manager: install.Systemd(),
	})
	if err == nil {
		var drift int
		if drift, err = plan.Drift(ctx); err == nil && drift > 0 {
			err = plan.Apply(ctx)
		}
	}
	if err != nil {
		a.errorf("warning: repair the installation: %s", check.Sanitize(fault.Text(err), 500))
	}
}

// repair runs the Repair of checks with problems. It prints to standard error, so that
// --json output stays JSON.
func (a *app) repair(ctx context.Context, w roleChecks) {
	for i, row := range check.Run(ctx, w.checks) {
		repair := w.checks[i].Repair
		if repair == nil || row.Status == check.Pass || row.Status == check.Skip {
			continue
		}
		did, err := repair(ctx)
		if did != "" {
			a.errorf("fixed %s: %s", row.ID, check.Sanitize(did, 2000))
		}
		if err != nil {
			a.errorf("warning: fix %s: %s", row.ID, check.Sanitize(err.Error(), 500))
		}
	}
}

// writeReport prints a report for people, with symbols on a terminal: failures first, then
// warnings, and with all the others too.
func writeReport(w io.Writer, r check.Report, terminal, all bool) {
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	if r.Role == roleNone {
		put("no role, version %s\n\n", r.Version)
	} else {
		put("%s, version %s\n\n", strings.TrimSpace(r.Role+" "+check.Sanitize(r.Host, 100)), r.Version)
	}
	rank := []check.Status{check.Fail, check.Warn, check.Skip, check.Pass}
	rows := slices.Clone(r.Checks)
	if !all {
		rows = slices.DeleteFunc(rows, func(row check.Row) bool { return row.Status == check.Pass || row.Status == check.Skip })
	}
	slices.SortStableFunc(rows, func(x, y check.Row) int { return slices.Index(rank, x.Status) - slices.Index(rank, y.Status) })
	width := 0
	for _, row := range rows {
		width = max(width, len(row.ID))
	}
	for _, row := range rows {
		put(" ")
		putMark(w, row.Status, terminal)
		put("  %-*s  %s", width, row.ID, row.Title)
		if row.Detail != "" {
			put(": %s", row.Detail)
		}
		put("\n")
		if row.Fix != "" {
			put(" %s  %-*s  fix: %s\n", blank(terminal), width, "", row.Fix)
		}
	}
	if len(rows) > 0 {
		put("\n")
	}
	put("%s", tally(r))
	if !all {
		put("   # all checks: cis490 doctor --all")
	}
	put("\n")
}

// tally returns the numbers of a report's outcomes, and whether sudo would skip fewer checks.
func tally(r check.Report) string {
	s, rights := r.Summary, 0
	for _, row := range r.Checks {
		if row.Status == check.Skip && strings.Contains(row.Detail, machine.WithSudo) {
			rights++
		}
	}
	parts := []string{fmt.Sprintf("%d ok", s.Pass)}
	warnings := "warnings"
	if s.Warn == 1 {
		warnings = "warning"
	}
	for _, p := range []struct {
		n    int
		word string
	}{{s.Warn, warnings}, {s.Fail, "failed"}, {s.Skip, "skipped"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	switch text := strings.Join(parts, ", "); {
	case rights == 0:
		return text
	case 2*rights > s.Skip:
		return text + " (most need sudo)"
	default:
		return text + " (some need sudo)"
	}
}

// mark returns a status as a column.
func mark(s check.Status) string {
	return map[check.Status]string{check.Pass: "ok  ", check.Warn: "warn", check.Fail: "FAIL", check.Skip: "skip"}[s]
}

// putMark prints a status, as a coloured symbol on a terminal.
func putMark(w io.Writer, s check.Status, terminal bool) {
	if !terminal {
		_, _ = io.WriteString(w, mark(s))
		return
	}
	controlf(w, "%s", map[check.Status]string{
		check.Pass: "\x1b[32m✓\x1b[0m", check.Warn: "\x1b[33m!\x1b[0m", check.Fail: "\x1b[31m✗\x1b[0m", check.Skip: "\x1b[2m–\x1b[0m",
	}[s])
}

func blank(terminal bool) string {
	if terminal {
		return " "
	}
	return "    "
}

// doctorSummary prints the short form of a report: the numbers, then the problems with
// their fixes.
func doctorSummary(w io.Writer, r check.Report) error {
	if _, err := fmt.Fprintf(w, "doctor: %s\n", tally(r)); err != nil {
		return err
	}
	for _, row := range r.Checks {
		if row.Fix == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "  %s  %s: %s: %s\n        fix: %s\n", mark(row.Status), row.ID, row.Title, row.Detail, row.Fix); err != nil {
			return err
		}
	}
	return nil
}
