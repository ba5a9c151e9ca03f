package machine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/machine"
)

type fixedUnits []machine.Unit

func (f fixedUnits) Units(context.Context, ...string) ([]machine.Unit, error) { return f, nil }

// TestUnitChecks_NameWhatTheMachineForbids: a service that systemd could not start is
// reported with the reason, not only with a number.
func TestUnitChecks_NameWhatTheMachineForbids(t *testing.T) {
	for code, want := range map[int32]string{
		203: "exit status 203/EXEC", 217: "exit status 217/USER", 226: "exit status 226/NAMESPACE", 1: "exit status 1)",
	} {
		ask := fixedUnits{{Name: "x.service", Load: "loaded", Active: "failed", Result: "exit-code", Code: code}}
		for _, c := range machine.UnitChecks(ask, machine.UnitSet{Daemons: []string{"x.service"}}, "receiver", "true", time.Now) {
			if c.ID != "units.active" {
				continue
			}
			if r := c.Run(t.Context()); !strings.Contains(r.Detail, want) {
				t.Errorf("%d: %s", code, r.Detail)
			}
		}
	}
}

type busy struct{}

func (busy) Units(context.Context, ...string) ([]machine.Unit, error) {
	return nil, fmt.Errorf("list units: %w", context.DeadlineExceeded)
}

// TestUnitChecks_BusySystemd: what systemd did not say in time is not called stopped.
func TestUnitChecks_BusySystemd(t *testing.T) {
	set := machine.UnitSet{Daemons: []string{"x.service"}, Timers: []string{"x.timer"}}
	for _, c := range machine.UnitChecks(busy{}, set, "receiver", "true", time.Now) {
		if r := c.Run(t.Context()); r.Status != check.Warn || strings.Contains(r.Fix, "install") || r.Fix == "" {
			t.Errorf("%s: %+v", c.ID, r)
		}
	}
}

// TestUnitChecks_StuckTimer: after a reload without its file during a run, a timer counts as
// running for ever, and starts nothing.
func TestUnitChecks_StuckTimer(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		run  string
		last time.Time
		want check.Status
	}{
		"runs":             {"activating", now.Add(-time.Hour), check.Pass},
		"ended":            {"inactive", now.Add(-time.Hour), check.Fail},
		"failed":           {"failed", now.Add(-time.Hour), check.Fail},
		"started just now": {"inactive", now, check.Pass},
	} {
		ask := fixedUnits{{Name: "x.service", Active: c.run}, {Name: "x.timer", Load: "loaded", Active: "active", Sub: "running", Last: c.last}}
		set := machine.UnitSet{Timers: []string{"x.timer"}}
		for _, k := range machine.UnitChecks(ask, set, "receiver", "true", func() time.Time { return now }) {
			if r := k.Run(t.Context()); k.ID == "timers.scheduled" && r.Status != c.want {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}
