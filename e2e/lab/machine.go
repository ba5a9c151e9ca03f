package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errOff says that a host has no PID 1 to run a command beside.
var errOff = errors.New("the host is off")

// A machine is one run of a host, from power-on to power-off: a systemd-nspawn
// process, and PID 1 as its child.
//
// The cgroup is what makes hosts separate and mortal. Without one of its own, a
// container's systemd builds its units' tree in the cgroup the test runs in, and
// all hosts share, and clear, each other's units. And killing nspawn alone leaves
// its PID 1 running: only cgroup.kill takes the whole host at once.
type machine struct {
	process *exec.Cmd
	cgroup  string
	ended   chan struct{} // closed when nspawn has exited
}

func startMachine(h *Host) (*machine, error) {
	group, err := h.cgroup()
	if err != nil {
		return nil, err
	}
	defer group.Close()
	console, err := os.OpenFile(h.console(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	defer console.Close()

	p := exec.Command("systemd-nspawn",
		"--directory="+h.root(), "--boot",
		"--machine="+fmt.Sprintf("%s-%d", h.lab.run.name(), h.number), "--hostname="+h.Name,
		"--network-namespace-path="+netnsPath(h.lab.network.name(h.Name)),
		"--register=no", "--keep-unit", // asks no service manager of this machine
		"--link-journal=no", "--resolv-conf=off", "--timezone=off", // keeps the host's own files
		"--console=pipe", "--", "systemd.show_status=yes")
	// The unified hierarchy is what systemd needs, also where this machine still
	// runs the hybrid one.
	p.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_COLORS=0")
	p.Stdout, p.Stderr = console, console
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("start systemd-nspawn: %w", err)
	}
	m := &machine{process: p, cgroup: group.Name(), ended: make(chan struct{})}
	go func() {
		_ = p.Wait() // how it ended is on the console
		close(m.ended)
	}()
	return m, nil
}

func (m *machine) alive() bool {
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// pid1 finds the host's PID 1. It is looked up each time, because nspawn starts
// another one when the host reboots.
func (m *machine) pid1() (int, error) {
	if !m.alive() {
		return 0, errOff
	}
	nspawn := strconv.Itoa(m.process.Process.Pid)
	children, err := os.ReadFile(filepath.Join("/proc", nspawn, "task", nspawn, "children"))
	if err != nil {
		return 0, errOff
	}
	for pid := range strings.FieldsSeq(string(children)) {
		status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if err == nil && isPID1(string(status)) {
			return strconv.Atoi(pid)
		}
	}
	return 0, fmt.Errorf("find PID 1 of %s: not started yet", filepath.Base(m.cgroup))
}

// isPID1 reads /proc/PID/status: "NSpid: 4711 1" is process 1 of its namespace.
func isPID1(status string) bool {
	for line := range strings.Lines(status) {
		if pids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(pids)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}

// kill ends every process of the host and returns when they are gone.
func (m *machine) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := killCgroup(ctx, m.cgroup); err != nil {
		return err
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return errors.New("wait for systemd-nspawn: it is still there")
	}
}

// poll asks done every interval until it says so, fails, or the context ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
