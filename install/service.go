package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kardianos/service"
	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// Manager is the machine's service manager, as far as install needs it. Units
// are named with their ending.
type Manager interface {
	// States describes units in the order given; one that does not exist has a
	// zero state but for its name.
	States(ctx context.Context, units ...string) ([]UnitState, error)
	// Systemctl runs one of its commands that is not about running a service.
	Systemctl(ctx context.Context, args ...string) error
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Restart(ctx context.Context, unit string) error
}

// UnitState is what the service manager knows of a unit.
type UnitState struct {
	Name       string
	Known      bool // it has a unit file, or had one when it was started
	Masked     bool
	Enabled    bool
	Active     bool        // running, or on its way to it
	NeedReload bool        // its file or a drop-in changed since it was read
	Started    time.Time   // of the main process; zero if there is none
	Program    fs.FileInfo // what the main process runs; nil if there is none
}

// platform is what the service library calls a machine that systemd runs.
const platform = "linux-systemd"

// Systemd returns the Manager of a machine that systemd runs. Services are
// controlled through kardianos/service; for units, timers and properties, which
// that library does not know, systemctl is asked.
func Systemd() Manager { return systemd{} }

type systemd struct{}

func (systemd) States(ctx context.Context, units ...string) ([]UnitState, error) {
	args := append([]string{"show", "--property=Id,LoadState,UnitFileState,ActiveState,SubState,MainPID,NeedDaemonReload", "--"}, units...)
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask systemd about units: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return parseShow(string(out), units, mainProcess), nil
}

// parseShow reads what systemctl show printed about units.
func parseShow(out string, units []string, process func(pid int) (time.Time, fs.FileInfo)) []UnitState {
	states := make([]UnitState, len(units))
	blocks := strings.Split(strings.TrimSpace(out), "\n\n")
	for i, unit := range units {
		states[i].Name = unit
		if i >= len(blocks) {
			continue
		}
		v := map[string]string{}
		for line := range strings.Lines(blocks[i]) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			v[key] = value
		}
		s := &states[i]
		s.Known = v["LoadState"] != "not-found" || v["ActiveState"] == "active"
		s.Masked = v["LoadState"] == "masked" || v["UnitFileState"] == "masked"
		s.Enabled = v["UnitFileState"] == "enabled"
		s.NeedReload = v["NeedDaemonReload"] == "yes"
		switch v["ActiveState"] {
		case "active", "reloading":
			s.Active = true
		case "activating": // waiting for a restart is not running
			s.Active = v["SubState"] != "auto-restart"
		}
		if pid, err := strconv.Atoi(v["MainPID"]); err == nil && pid > 0 {
			s.Started, s.Program = process(pid)
		}
	}
	return states
}

// mainProcess tells since when a process runs and what. Its age is counted on a
// clock that runs through suspension and is never set, so that the start is told
// in terms of today's clock.
func mainProcess(pid int) (time.Time, fs.FileInfo) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	program, err := os.Stat(filepath.Join(proc, "exe")) // the kernel's own link to the inode
	if err != nil {
		program = nil // another user's, for one who is not root
	}
	stat, err := disk.ReadFile(disk.OS{}, filepath.Join(proc, "stat"), disk.Small)
	if err != nil {
		return time.Time{}, program
	}
	// Past the name, which may hold anything, starttime is the 20th field.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil || len(fields) < 20 {
		return time.Time{}, program
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, program
	}
	const perTick = time.Second / 100 // USER_HZ, on every Linux
	age := time.Duration(now.Nano()) - time.Duration(ticks)*perTick
	return time.Now().Add(-age), program
}

func (systemd) Systemctl(ctx context.Context, args ...string) error {
	return execute(ctx, "systemctl", args...)
}

func (s systemd) Start(ctx context.Context, unit string) error {
	return s.control(ctx, "start", unit, service.Service.Start)
}

func (s systemd) Stop(ctx context.Context, unit string) error {
	return s.control(ctx, "stop", unit, service.Service.Stop)
}

func (s systemd) Restart(ctx context.Context, unit string) error {
	return s.control(ctx, "restart", unit, service.Service.Restart)
}

func (systemd) control(ctx context.Context, verb, unit string, do func(service.Service) error) error {
	name, isService := strings.CutSuffix(unit, ".service")
	var err error
	if isService {
		err = errors.New("the service library knows no systemd")
		for _, system := range service.AvailableSystems() {
			if system.String() != platform {
				continue
			}
			var svc service.Service
			if svc, err = system.New(foreground{}, &service.Config{Name: name}); err == nil {
				err = do(svc)
			}
		}
	} else {
		err = execute(ctx, "systemctl", verb, unit)
	}
	if err != nil {
		return fault.Fix(fmt.Errorf("%s %s: %w", verb, unit, err), fmt.Sprintf("journalctl -u %s -n 30   # why", unit))
	}
	return nil
}

// foreground is the program that the service library would run: ours run in the
// foreground and know nothing of it.
type foreground struct{}

// Start does nothing.
func (foreground) Start(service.Service) error { return nil }

// Stop does nothing.
func (foreground) Stop(service.Service) error { return nil }
