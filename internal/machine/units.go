package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/plain"
)

// Asker returns the state of units. Systemd implements it.
type Asker interface {
	Units(ctx context.Context, names ...string) ([]Unit, error)
}

// UnitSet lists the units of a role.
type UnitSet struct {
	Daemons []string // services that should run
	Timers  []string // each with a service of the same name
}

// UnitChecks returns the checks of a role's units. Their fix is the role's install, which
// restores units. Units that the site masked stay masked.
func UnitChecks(ask Asker, set UnitSet, machine, install string, now func() time.Time) []check.Check {
	var runs []string
	for _, t := range set.Timers {
		runs = append(runs, strings.TrimSuffix(t, ".timer")+".service")
	}
	// One query for all checks of a run.
	state := CacheBriefly(func() (map[string]Unit, error) {
		ctx, cancel := context.WithTimeout(context.Background(), check.Timeout-time.Second)
		defer cancel()
		all := slices.Concat(set.Daemons, runs, set.Timers)
		units, err := ask.Units(ctx, all...)
		byName := make(map[string]Unit, len(units))
		for _, u := range units {
			byName[u.Name] = u
		}
		for i, t := range set.Timers {
			// A reload without the timer's file during the run. The service was queried first, so
			// a timer that started it just now has a recent last run.
			if u := byName[t]; u.Sub == "running" && ended(byName[runs[i]]) && now().Sub(u.Last) > time.Minute {
				u.Sub = "elapsed"
				byName[t] = u
			}
		}
		return byName, err
	})
	each := func(names []string, judge func(Unit) (status check.Status, why string), good string) func(context.Context) check.Result {
		return func(context.Context) check.Result {
			if ask == nil || len(names) == 0 {
				return check.Skipf("this machine runs without systemd")
			}
			units, err := state()
			if err != nil {
				if errors.Is(err, ErrNoSystemd) {
					return check.Skipf("%v", err)
				}
				if errors.Is(err, context.DeadlineExceeded) { // the services may run
					return check.Warnf("systemd did not answer in time").WithFix("systemctl status   # shows how busy the machine is")
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
	logs := "on the " + machine + ": sudo " + install + "; sudo journalctl -b -p warning -u 'cis490-*' -n 20 --no-pager   " +
		"# starts stopped services; the journal shows why they stopped"
	return []check.Check{
		{
			ID: "units.enabled", Title: "Units are enabled", Severity: check.Hard, Fix: fix,
			Doc: "Every service and timer of the role is installed and starts with the machine. A unit that the site masked is a warning.",
			Run: each(append(append([]string{}, set.Daemons...), set.Timers...), enabled, "all enabled"),
		},
		{
			ID: "units.active", Title: "Services are running", Severity: check.Hard, Fix: logs,
			Doc: "The role's daemons are active. The journal shows why one is not running.",
			Run: each(set.Daemons, active, "all running"),
		},
		{
			ID: "units.restarts", Title: "Services stay up", Severity: check.Soft, Fix: logs,
			Doc: "It warns if systemd restarted a daemon at least three times since its last manual start, and the last time within a day. " +
				"A restart by the watchdog means that the daemon hung.",
			Run: each(set.Daemons, func(u Unit) (check.Status, string) { return restarts(u, now()) }, "no recent restarts"),
		},
		{
			ID: "timers.scheduled", Title: "Timers are scheduled", Severity: check.Hard, Fix: fix,
			Doc: "Every timer of the role is active and waits for its next time: updates, certificates and health reports depend on them.",
			Run: each(set.Timers, scheduled, "all scheduled"),
		},
		{
			ID: "timers.result", Title: "Timer jobs succeed", Severity: check.Soft, Fix: logs,
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
		return check.Fail, "not loadable (" + u.Load + ")"
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

// beforeStart explains the exit statuses with which systemd reports that it could not start
// the program; see systemd.exec(5).
func beforeStart(code int32) string {
	why := map[int32]string{
		200: "CHDIR, a folder is missing or not accessible",
		203: "EXEC, the program cannot be run: noexec, SELinux or a folder without access",
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
	return check.Warn, fmt.Sprintf("restarted %d times, last at %s", u.Restarts, plain.Time(u.Since))
}

func ended(u Unit) bool { return u.Active == "inactive" || u.Active == "failed" }

func scheduled(u Unit) (check.Status, string) {
	switch {
	case u.Load == "masked" || (u.Active == "active" && u.Sub != "elapsed"):
		return check.Pass, ""
	case u.Load == "not-found":
		return check.Fail, "not installed"
	case u.Active == "active":
		return check.Fail, "has no next run"
	}
	return check.Fail, u.Active
}

func lastRun(u Unit) (check.Status, string) {
	if u.Load != "loaded" || u.Result == "" || u.Result == "success" {
		return check.Pass, ""
	}
	return check.Warn, fmt.Sprintf("%s, exit status %d, at %s", u.Result, u.Code, plain.Time(u.Last))
}
