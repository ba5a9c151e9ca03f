package sim

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/install"
	"cis490/internal/disk"
)

// Folders of units, below a machine's root.
const (
	unitDir  = "/etc/systemd/system"
	wantsDir = unitDir + "/wants" // one folder for all targets
)

// program is the path of the program of all services.
func (m *Machine) program() string { return filepath.Join(m.root, "opt/cis490/current/cis490") }

// random returns the random delay of a timer.
func (m *Machine) random(most time.Duration) time.Duration {
	m.dmu.Lock()
	defer m.dmu.Unlock()
	if most == 0 {
		return 0
	}
	return time.Duration(m.rand.Int64N(int64(m.w.timer(most))))
}

// reload reads the units, as at boot or with daemon-reload. A timer without its file fails, or
// has no next run from then on if it is running. The caller holds the lock.
func (m *Machine) reload() {
	for _, s := range m.services {
		u, err := parseUnit(m.unitText(s))
		if err != nil {
			m.w.trace(m.name, "%s: %v", s.Unit, err)
		}
		if s.armed && s.unit.every > 0 && u.every == 0 {
			s.armed, s.stuck = s.active, s.active
		}
		s.unit = u
	}
}

func (m *Machine) unitText(s *Service) string {
	var text bytes.Buffer
	for _, ending := range []string{".service", ".timer"} {
		b, _ := readFile(m.disk, filepath.Join(m.root, unitDir, s.Unit+ending))
		text.Write(b)
	}
	return text.String()
}

// enabled reports whether the unit or its timer is started at boot.
func (s *Service) enabled() bool {
	ending := ".service"
	if s.unit.every > 0 {
		ending = ".timer"
	}
	return disk.Exists(s.m.disk, filepath.Join(s.m.root, wantsDir, s.Unit+ending))
}

// unitNamed returns the service of a unit or a timer, or nil.
func (m *Machine) unitNamed(name string) *Service {
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".service"), ".timer")
	if i := slices.IndexFunc(m.services, func(s *Service) bool { return s.Unit == name }); i >= 0 {
		return m.services[i]
	}
	return nil
}

// manager is the service manager's interface for install.
type manager struct{ m *Machine }

// States describes units. One without a program in this model counts as running. One that
// is being stopped is deactivating, not active.
func (g manager) States(_ context.Context, units ...string) ([]install.UnitState, error) {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	var all []install.UnitState
	for _, name := range units {
		u := install.UnitState{Name: name, Known: true, Enabled: true, Active: true}
		if s := g.m.unitNamed(name); s != nil {
			u.Known = disk.Exists(g.m.disk, filepath.Join(g.m.root, unitDir, name)) || s.active
			u.Enabled = disk.Exists(g.m.disk, filepath.Join(g.m.root, wantsDir, name))
			u.NeedReload = g.m.unitText(s) != s.unit.text
			if u.Active = s.active && !s.held; strings.HasSuffix(name, ".timer") {
				u.Active, u.Stuck = s.armed, s.stuck
			} else if s.active {
				u.Started, u.Program = g.m.Clock.Now().Add(-time.Since(s.since)), s.program
			}
		}
		all = append(all, u)
	}
	return all, nil
}

// Systemctl reloads, enables or disables units, or starts one-shot units.
func (g manager) Systemctl(ctx context.Context, args ...string) error {
	if args[0] == "daemon-reload" {
		g.m.mu.Lock()
		defer g.m.mu.Unlock()
		g.m.reload()
		return nil
	}
	fsys := g.m.person().fs
	for _, name := range args[1:] {
		link := filepath.Join(g.m.root, wantsDir, name)
		var err error
		switch {
		case strings.HasPrefix(name, "-"):
		case args[0] == "start":
			err = g.Start(ctx, name)
		case args[0] == "enable":
			if err = disk.MkdirAll(fsys, filepath.Dir(link), 0o755); err == nil {
				err = disk.Relink(fsys, "../"+name, link)
			}
		case args[0] == "disable":
			if err = fsys.Remove(link); err == nil {
				err = g.Stop(ctx, name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Errors returns nothing: no service of this model fails at once.
func (g manager) Errors(context.Context, string) string { return "" }

// Start starts a unit, or a timer unless that is active.
func (g manager) Start(_ context.Context, name string) error {
	if s := g.m.unitNamed(name); s != nil {
		g.m.mu.Lock()
		timer := strings.HasSuffix(name, ".timer")
		active := timer && s.armed
		if !active {
			s.held, s.armed, s.rearm = false, true, timer
		}
		g.m.mu.Unlock()
		if !active {
			s.start()
		}
	}
	return nil
}

// Stop stops a unit, or a timer.
func (g manager) Stop(_ context.Context, name string) error {
	if s := g.m.unitNamed(name); s != nil {
		g.m.Stop(s.Name)
	}
	return nil
}

// Restart restarts a unit, or a timer.
func (g manager) Restart(ctx context.Context, name string) error {
	s := g.m.unitNamed(name)
	switch {
	case s == nil:
	case strings.HasSuffix(name, ".timer"):
		g.m.mu.Lock()
		s.armed, s.stuck = false, false
		g.m.mu.Unlock()
		return g.Start(ctx, name)
	default:
		g.m.Restart(s.Name)
	}
	return nil
}
