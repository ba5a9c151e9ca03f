// Package machine reads the state of the machine: systemd units, disks, file owners and the
// kernel's clock. It contains the checks of them that lab hosts and the receiver share.
//
// It works for any user and changes nothing, except in a check's Repair. On a machine
// without systemd or D-Bus, calls return ErrNoSystemd and checks skip.
package machine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// ErrNoSystemd means that systemd is not available.
var ErrNoSystemd = errors.New("systemd is not available")

// Unit is a unit's state, in systemd's terms.
type Unit struct {
	Name     string
	Load     string    // "loaded", "not-found", "masked"…
	File     string    // "enabled", "disabled", "static"…; empty without a file
	Active   string    // "active", "activating", "failed", "inactive"…
	Sub      string    // "running", "waiting", "dead", "auto-restart"…
	Result   string    // of the last run: "success", "exit-code", "watchdog", "timeout"…
	Code     int32     // exit status of the last run of a service
	Since    time.Time // when it became active
	Restarts uint32    // automatic restarts since the last manual start
	Last     time.Time // a timer's last run, a service's last exit
}

// Systemd queries the machine's systemd over D-Bus.
type Systemd struct{}

// Units returns the named units in order. A unit without a file has Load "not-found".
func (Systemd) Units(ctx context.Context, names ...string) ([]Unit, error) {
	conn, err := dbus.NewWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSystemd, err)
	}
	defer conn.Close()
	units := make([]Unit, 0, len(names))
	for _, name := range names {
		u, err := unit(ctx, conn, name)
		if err != nil {
			return nil, fmt.Errorf("query systemd for %s: %w", name, err)
		}
		units = append(units, u)
	}
	return units, nil
}

// State returns the state of the whole system: "running", "degraded", "stopping" and
// others.
func (Systemd) State(ctx context.Context) (string, error) {
	conn, err := dbus.NewWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoSystemd, err)
	}
	defer conn.Close()
	p, err := conn.SystemStateContext(ctx)
	if err != nil {
		return "", fmt.Errorf("query systemd's state: %w", err)
	}
	state, _ := p.Value.Value().(string)
	return state, nil
}

func unit(ctx context.Context, conn *dbus.Conn, name string) (Unit, error) {
	p, err := conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, err
	}
	u := Unit{
		Name: name, Load: text(p, "LoadState"), File: text(p, "UnitFileState"),
		Active: text(p, "ActiveState"), Sub: text(p, "SubState"), Since: stamp(p, "ActiveEnterTimestamp"),
	}
	if u.Load != "loaded" {
		return u, nil
	}
	switch {
	case strings.HasSuffix(name, ".service"):
		p, err = conn.GetUnitTypePropertiesContext(ctx, name, "Service")
		if err != nil {
			return Unit{}, err
		}
		u.Restarts, _ = p["NRestarts"].(uint32)
		u.Code, _ = p["ExecMainStatus"].(int32)
		u.Last = stamp(p, "ExecMainExitTimestamp")
	case strings.HasSuffix(name, ".timer"):
		p, err = conn.GetUnitTypePropertiesContext(ctx, name, "Timer")
		if err != nil {
			return Unit{}, err
		}
		u.Last = stamp(p, "LastTriggerUSec")
	}
	u.Result = text(p, "Result")
	return u, nil
}

func text(p map[string]any, key string) string {
	s, _ := p[key].(string)
	return s
}

// stamp converts microseconds since 1970; 0 and "never" are the zero time.
func stamp(p map[string]any, key string) time.Time {
	us, _ := p[key].(uint64)
	if us == 0 || us > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us)).UTC()
}
