package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
)

// reload makes systemd read the current unit files.
func (p *Plan) reload() step {
	return step{"systemd", func(ctx context.Context) ([]Change, error) {
		var old []string
		for unit := range p.touched {
			old = append(old, unit)
		}
		states, err := p.Manager.States(ctx, p.unitNames()...)
		if err != nil {
			return nil, err
		}
		for _, s := range states {
			if s.NeedReload && !p.touched[s.Name] {
				old = append(old, s.Name)
			}
		}
		if len(old) == 0 {
			return nil, nil
		}
		slices.Sort(old)
		which := strings.Join(old, ", ")
		if len(old) > 3 { // the previous step printed them
			which = fmt.Sprintf("%d unit files", len(old))
		}
		return []Change{p.systemctl("has not read "+which+" as now written: reload", "reloaded", which, "daemon-reload")}, nil
	}}
}

// enable enables the units at boot.
func (p *Plan) enable() step {
	return step{"boot", func(ctx context.Context) ([]Change, error) {
		states, err := p.Manager.States(ctx, p.wanted()...)
		if err != nil {
			return nil, err
		}
		var off []string
		for _, s := range states {
			if !s.Enabled && !s.Masked {
				off = append(off, s.Name)
			}
		}
		if len(off) == 0 {
			return nil, nil
		}
		names := strings.Join(off, ", ")
		return []Change{p.systemctl("not enabled: "+names+": enable", "enabled", names, append([]string{"enable", "--quiet"}, off...)...)}, nil
	}}
}

// wanted returns the units that are enabled and running on a machine of the role.
func (p *Plan) wanted() []string { return append(p.daemons(), p.Role.timers()...) }

func (p *Plan) systemctl(what, done, object string, args ...string) Change {
	return Change{
		What: what, Done: done, Object: object, Commands: []string{"systemctl " + strings.Join(args, " ")},
		apply: func(ctx context.Context) error { return p.Manager.Systemctl(ctx, args...) },
	}
}

// services starts what is not running, and restarts a timer without a next run, and a daemon
// that was started before its unit, its config or the binary changed.
func (p *Plan) services(configPath string) step {
	return step{"services", func(ctx context.Context) ([]Change, error) {
		states, err := p.Manager.States(ctx, p.wanted()...)
		if err != nil {
			return nil, err
		}
		var changes []Change
		for _, s := range states {
			switch {
			case s.Masked:
				changes = append(changes, note(s.Name+" is masked: left alone"))
			case !s.Active:
				changes = append(changes, p.control(s.Name, "is not running", "start", p.Manager.Start))
			case s.Stuck:
				changes = append(changes, p.control(s.Name, "has no next run", "restart", p.Manager.Restart))
			case strings.HasSuffix(s.Name, ".timer"): // a reload is enough for other timers
			default:
				if why := p.outdated(s, configPath); why != "" {
					changes = append(changes, p.control(s.Name, why, "restart", p.Manager.Restart))
				}
			}
		}
		neighbours, err := p.neighbours(ctx)
		return append(changes, neighbours...), err
	}}
}

// neighbours restarts the other role's daemons if their binary changed. Nothing else of the
// other role is changed.
func (p *Plan) neighbours(ctx context.Context) ([]Change, error) {
	if !p.has(p.Role.other()) {
		return nil, nil
	}
	states, err := p.Manager.States(ctx, p.Role.other().daemons()...)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, s := range states {
		if why := p.otherBinary(s); s.Active && why != "" {
			changes = append(changes, p.control(s.Name, why, "restart", p.Manager.Restart))
		}
	}
	return changes, nil
}

// outdated returns why a running daemon needs a restart, or "".
func (p *Plan) outdated(s UnitState, configPath string) string {
	if why := p.otherBinary(s); why != "" {
		return why
	}
	if p.touched[s.Name] || p.newerThan(s, unitDir+"/"+s.Name) {
		return "was started before its unit changed"
	}
	if p.newerThan(s, configPath) {
		return "was started before " + configPath + " changed"
	}
	return ""
}

func (p *Plan) otherBinary(s UnitState) string {
	current, err := disk.Stat(p.FS, p.at(optDir+"/current/"+nameOfUs))
	if p.newBinary || (s.Program != nil && err == nil && !disk.SameFile(s.Program, current)) {
		//off:07_InstallAgain
		return "runs another binary"
	}
	return ""
}

// newerThan reports whether a file changed after a daemon was started. A time in the future
// comes from a wrong clock and proves nothing.
func (p *Plan) newerThan(s UnitState, path string) bool {
	// The start of a process is accurate to a tick of 10 ms.
	const tick = 20 * time.Millisecond
	fi, err := disk.Stat(p.FS, p.at(path))
	return err == nil && !s.Started.IsZero() && fi.ModTime().After(s.Started.Add(tick)) && !fi.ModTime().After(p.Now())
}

func (p *Plan) control(unit, why, verb string, do func(context.Context, string) error) Change {
	return Change{
		What: fmt.Sprintf("%s %s: %s", unit, why, verb), Done: verb + "ed", Object: unit,
		Was:      strings.NewReplacer("is not ", "was not ", "runs ", "ran ", "has ", "had ").Replace(why),
		Commands: []string{"systemctl " + verb + " " + unit},
		apply: func(ctx context.Context) error {
			err := do(ctx, unit)
			if err != nil && p.Update && p.daemonDown(ctx, unit) {
				// The trial decides whether the version or the machine is to blame: a daemon that
				// did not run before does not fail a release.
				return noted{err}
			}
			return err
		},
	}
}

func (p *Plan) daemonDown(ctx context.Context, unit string) bool {
	states, err := p.Manager.States(ctx, unit)
	return err == nil && strings.HasSuffix(unit, ".service") && !states[0].Active
}

// running returns the last steps of both plans: those of the service manager.
func (p *Plan) running(configPath string, between ...step) []step {
	if p.Manager == nil {
		return nil
	}
	steps := []step{
		p.reload(),
		//off:07_InstallOverBroken
		p.enable(),
	}
	if p.NoStart {
		return steps
	}
	return append(append(steps, between...), p.services(configPath))
}

// refuseUnknown returns unknown config keys as errors when a person installs. An update
// only prints them, because the key may be of the previous version.
func (p *Plan) refuseUnknown(unknown []*config.Error) error {
	var all []error
	for _, e := range unknown {
		if p.Update {
			p.say("note     config: %v\n", e)
			continue
		}
		all = append(all, e)
	}
	return errors.Join(all...)
}
