package commands

import (
	"log/slog"
	"slices"
	"time"

	labchecks "cis490/agent/checks"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver/cluster"
	"cis490/receiver/fleet"
	"cis490/receiver/gate"
	"cis490/receiver/local"
	"cis490/receiver/rollout"
)

// fleetSource is the source of the facts for fleet-check and for host show.
func (a *app) fleetSource(conf config.Receiver, path string) fleet.Source {
	quiet := slog.New(slog.DiscardHandler) // serve logs faults of either
	back := backend(conf, disk.OS{}, path, quiet)
	releases := a.rollout(conf, back, nil, quiet)
	others := cluster.New(back.Peers, quiet)
	_ = others.Refresh() // then the storage is away, which fleet-check reports
	g := a.gate(disk.OS{}, path, releases, others, quiet)
	g.Refresh()
	return fleet.Source{
		Backend: back, Roster: local.Roster(disk.OS{}, conf.Authority.Dir),
		Gate: g.Judge, Offered: releases.Version,
	}
}

// gate follows the config at a path, and the releases.
func (a *app) gate(fsys disk.FS, path string, releases *rollout.Controller, others *cluster.Cluster, log *slog.Logger) *gate.Gate {
	return gate.New(gate.Options{
		Own: a.env.Build.Commit, FS: fsys, Path: path, Released: releases.Commits, Blocked: releases.Blocked, Others: others.Rules,
		Log: log.With("component", "gate"),
	})
}

// forecast returns a host's forecast and its open alerts. It prints a warning for facts
// that cannot be read.
func (a *app) forecast(conf config.Receiver, path string, h ident.Host) (fleet.Forecast, []fleet.Alert) {
	facts, err := fleet.Gather(a.fleetSource(conf, path), time.Now(), fleet.LimitsOf(conf))
	if err != nil {
		a.errorf("warning: some facts cannot be read: %v", err)
	}
	facts.Known = registry(labchecks.Checks(labchecks.Options{}))
	last, err := a.lastRun(conf, path)
	if err != nil {
		a.errorf("warning: cannot read open alerts: %v", err)
	}
	mine := slices.DeleteFunc(last.Open, func(x fleet.Alert) bool { return x.Host != string(h) })
	return facts.Forecast(h), orEmpty(mine)
}
