package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kardianos/service"
	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// Manager is the part of the service manager that install needs. Unit names include their
// suffix.
type Manager interface {
	// States describes units in the given order. A unit that does not exist has only a
	// name.
	States(ctx context.Context, units ...string) ([]UnitState, error)
	// Systemctl runs a systemctl command that does not start or stop a service.
	Systemctl(ctx context.Context, args ...string) error
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Restart(ctx context.Context, unit string) error
	// Errors returns the lines that the last run of a unit logged as errors, or "".
	Errors(ctx context.Context, unit string) string
}

// UnitState is a unit's state in the service manager.
type UnitState struct {
	Name       string
	Known      bool // has a unit file, or had one when it was started
	Masked     bool
	Enabled    bool
	Active     bool        // running or starting
	Stuck      bool        // a timer without a next run, as after a reload without its file during one
	NeedReload bool        // its file or a drop-in changed since the last reload
	Started    time.Time   // start of the main process; zero if there is none
	Program    fs.FileInfo // binary of the main process; nil if there is none
}

// platform is the service library's name for systemd.
const platform = "linux-systemd"

// Systemd returns the Manager of a machine with systemd. It controls services through
// kardianos/service, and uses systemctl for units, timers and properties, which that
// library does not support.
func Systemd() Manager { return systemd{} }

type systemd struct{}

func (systemd) States(ctx context.Context, units ...string) ([]UnitState, error) {
	var runs []string // of timers: first, because a timer may start one between the two answers
	for _, u := range units {
		if name, ok := strings.CutSuffix(u, ".timer"); ok {
			runs = append(runs, name+".service")
		}
	}
	all := slices.Concat(runs, units)
	args := append([]string{"show", "--property=Id,LoadState,UnitFileState,ActiveState,SubState,MainPID,NeedDaemonReload", "--"}, all...)
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("query systemd for units: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return parseShow(string(out), all, mainProcess)[len(runs):], nil
}

// parseShow parses the output of systemctl show.
func parseShow(out string, units []string, process func(pid int) (time.Time, fs.FileInfo)) []UnitState {
	states := make([]UnitState, len(units))
	ended := map[string]bool{}
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
		run := strings.TrimSuffix(unit, ".timer") + ".service"
		s.Stuck = v["SubState"] == "elapsed" || unit != run && v["SubState"] == "running" && ended[run]
		ended[unit] = v["ActiveState"] == "inactive" || v["ActiveState"] == "failed"
		switch v["ActiveState"] {
		case "active", "reloading":
			s.Active = true
		case "activating": // auto-restart means waiting for a restart
			s.Active = v["SubState"] != "auto-restart"
		}
		if pid, err := strconv.Atoi(v["MainPID"]); err == nil && pid > 0 {
			s.Started, s.Program = process(pid)
		}
	}
	return states
}

// mainProcess returns when a process started, and its binary. It measures the process's age
// on a clock that includes suspend and is never set, so that the start fits the current
// wall clock.
func mainProcess(pid int) (time.Time, fs.FileInfo) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	program, err := os.Stat(filepath.Join(proc, "exe")) // the kernel's own link to the inode
	if err != nil {
		program = nil // not readable without root
	}
	stat, err := disk.ReadFile(disk.OS{}, filepath.Join(proc, "stat"), disk.Small)
	if err != nil {
		return time.Time{}, program
	}
	// After the name, which may contain anything, starttime is the 20th field.
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

func (systemd) Errors(ctx context.Context, unit string) string {
	show, err := exec.CommandContext(ctx, "systemctl", "show", "--value", "--property=ExecMainPID", "--", unit).Output()
	pid := strings.TrimSpace(string(show))
	if err != nil || pid == "0" {
		return ""
	}
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run() // a line may be on its way
	// By its process: lines that arrive after its end have no _SYSTEMD_INVOCATION_ID.
	out, _ := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=cat", "--priority=err", "--boot",
		"--unit="+unit, "_PID="+pid).Output()
	return string(out)
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
		err = errors.New("the service library does not support systemd")
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
		return fault.Fix(fmt.Errorf("%s %s: %w", verb, unit, err), fmt.Sprintf("journalctl -u %s -n 30   # for the reason", unit))
	}
	return nil
}

// foreground is a stub for the service library: the program's daemons run in the foreground
// and do not use it.
type foreground struct{}

// Start does nothing.
func (foreground) Start(service.Service) error { return nil }

// Stop does nothing.
func (foreground) Stop(service.Service) error { return nil }
