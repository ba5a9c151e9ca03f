package machine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cis490/internal/check"
)

// Asker is who tells the state of units; Systemd is one.
type Asker interface {
	Units(ctx context.Context, names ...string) ([]Unit, error)
}

// UnitSet says which units a role has.
type UnitSet struct {
	Daemons []string // services that should run
	Timers  []string // each with a service of the same name
}

// UnitChecks are the checks on a role's units. The fix is the role's install,
// which converges; a unit that the site masked is the site's business.
func UnitChecks(ask Asker, set UnitSet, machine, install string, now func() time.Time) []check.Check {
	var runs []string
	for _, t := range set.Timers {
		runs = append(runs, strings.TrimSuffix(t, ".timer")+".service")
	}
	// One question for all checks of a run: systemd answers them together.
	state := Share(func() (map[string]Unit, error) {
		ctx, cancel := context.WithTimeout(context.Background(), check.Timeout-time.Second)
		defer cancel()
		all := append(append(append([]string{}, set.Daemons...), set.Timers...), runs...)
		units, err := ask.Units(ctx, all...)
		byName := make(map[string]Unit, len(units))
		for _, u := range units {
			byName[u.Name] = u
		}
		return byName, err
	})
	each := func(names []string, judge func(Unit) (status check.Status, why string), good string) func(context.Context) check.Result {
		return func(context.Context) check.Result {
			if ask == nil || len(names) == 0 {
				return check.Skipf("this machine runs it without systemd")
			}
			units, err := state()
			if err != nil {
				if errors.Is(err, ErrNoSystemd) {
					return check.Skipf("%v", err)
				}
				return check.Failf("%v", err)
			}
			worst := check.Result{Status: check.Pass, Detail: good}
			var bad []string
			for _, n := range names {
				status, why := judge(units[n])
				if status == check.Pass {
					continue
				}
				bad = append(bad, n+": "+why)
				if worst.Status != check.Fail {
					worst.Status = status
				}
			}
			if len(bad) > 0 {
				worst.Detail = strings.Join(bad, "; ")
			}
			return worst
		}
	}
	fix := "on the " + machine + ": sudo " + install
	logs := "on the " + machine + ": sudo " + install + "; sudo journalctl -b -p warning -u 'cis490-*' -n 20 --no-pager   # starts what is stopped; the journal says why it was"
	return []check.Check{
		{
			ID: "units.enabled", Title: "Units are enabled", Severity: check.Hard, Fix: fix,
			Doc: "Every service and timer of the role is installed and starts with the machine. A unit that the site masked is a warning.",
			Run: each(append(append([]string{}, set.Daemons...), set.Timers...), enabled, "all enabled"),
		},
		{
			ID: "units.active", Title: "Services are running", Severity: check.Hard, Fix: logs,
			Doc: "The role's daemons are active. What keeps one from running is in its journal.",
			Run: each(set.Daemons, active, "all running"),
		},
		{
			ID: "units.restarts", Title: "Services stay up", Severity: check.Soft, Fix: logs,
			Doc: "systemd did not have to restart a daemon three times since it was last started by hand, the latest within a day. A restart by the watchdog shows as a hang.",
			Run: each(set.Daemons, func(u Unit) (check.Status, string) { return restarts(u, now()) }, "no restarts of late"),
		},
		{
			ID: "timers.scheduled", Title: "Timers are scheduled", Severity: check.Hard, Fix: fix,
			Doc: "Every timer of the role is active and waits for its next time: updates, certificates and snapshots come from them.",
			Run: each(set.Timers, scheduled, "all scheduled"),
		},
		{
			ID: "timers.result", Title: "What timers start succeeds", Severity: check.Soft, Fix: logs,
			Doc: "The last run of each timer's service succeeded.",
			Run: each(runs, lastRun, "all last runs succeeded"),
		},
	}
}

func enabled(u Unit) (check.Status, string) {
	switch {
	case u.Load == "masked" || strings.HasPrefix(u.File, "masked"):
		return check.Warn, "masked by this site"
	case u.Load == "not-found":
		return check.Fail, "not installed"
	case u.Load != "loaded":
		return check.Fail, "cannot be loaded (" + u.Load + ")"
	case strings.HasPrefix(u.File, "enabled") || u.File == "static":
		return check.Pass, ""
	}
	return check.Fail, u.File
}

func active(u Unit) (check.Status, string) {
	switch {
	case u.Active == "active" || u.Active == "reloading" || u.Load == "masked":
		return check.Pass, ""
	case u.Load == "not-found":
		return check.Fail, "not installed"
	case u.Active == "activating" && u.Sub != "auto-restart":
		return check.Warn, "starting"
	}
	why := u.Active
	if u.Result != "" && u.Result != "success" {
		why += fmt.Sprintf(" (%s, exit status %d%s)", u.Result, u.Code, beforeStart(u.Code))
	}
	return check.Fail, why
}

// beforeStart names the statuses with which systemd says that it could not even start
// the program, and what about the machine is mostly the reason: see systemd.exec(5).
func beforeStart(code int32) string {
	why := map[int32]string{
		200: "CHDIR, a folder is missing or closed",
		203: "EXEC, the program cannot be run: noexec, SELinux or a folder that is closed",
		217: "USER, the user is missing or has no user namespace",
		218: "CAPABILITIES, which a container withholds",
		226: "NAMESPACE, which a container forbids, or a folder that is missing",
		228: "SECCOMP, which the kernel or a container lacks",
	}[code]
	if why != "" {
		why = "/" + why
	}
	return why
}

func restarts(u Unit, now time.Time) (check.Status, string) {
	if u.Restarts < 3 || u.Since.IsZero() || now.Sub(u.Since) > 24*time.Hour {
		return check.Pass, ""
	}
	return check.Warn, fmt.Sprintf("restarted %d times, last at %s", u.Restarts, u.Since.Format(time.RFC3339))
}

func scheduled(u Unit) (check.Status, string) {
	switch {
	case u.Load == "masked" || (u.Active == "active" && u.Sub != "elapsed"):
		return check.Pass, ""
	case u.Load == "not-found":
		return check.Fail, "not installed"
	case u.Active == "active":
		return check.Fail, "has no next time"
	}
	return check.Fail, u.Active
}

func lastRun(u Unit) (check.Status, string) {
	if u.Load != "loaded" || u.Result == "" || u.Result == "success" {
		return check.Pass, ""
	}
	return check.Warn, fmt.Sprintf("%s, exit status %d, at %s", u.Result, u.Code, u.Last.Format(time.RFC3339))
}
