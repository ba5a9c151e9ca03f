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
	"sync"
	"time"
)

// errOff reports that a host has no PID 1.
var errOff = errors.New("the host is off")

// exitReboot is systemd-nspawn's exit code after a reboot of the host.
const exitReboot = 133

// A machine is one run of a host from power-on to power-off, including reboots: a
// systemd-nspawn process with PID 1 as its child.
//
// Each machine needs its own cgroup. Otherwise the containers' systemds build their units
// in the cgroup of the test, and stop each other's units. Killing nspawn alone would leave
// PID 1 running; cgroup.kill ends the whole host.
type machine struct {
	host  *Host
	ended chan struct{} // closed when nspawn has exited for good

	mu     sync.Mutex
	nspawn *exec.Cmd
	killed bool
}

func startMachine(h *Host) (*machine, error) {
	m := &machine{host: h, ended: make(chan struct{})}
	if err := m.start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(m.ended)
		for {
			_ = m.nspawn.Wait() // the console has the reason
			if m.nspawn.ProcessState.ExitCode() != exitReboot || m.start() != nil {
				return
			}
		}
	}()
	return m, nil
}

// start runs nspawn. It returns errOff after kill.
func (m *machine) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.killed {
		return errOff
	}
	h := m.host
	console, err := os.OpenFile(h.console(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the console: %w", err)
	}
	defer func() { _ = console.Close() }()

	p := exec.Command("systemd-nspawn",
		"--directory="+h.root(), "--boot",
		"--machine="+fmt.Sprintf("%s-%d", h.lab.run.name(), h.number), "--hostname="+h.Name,
		"--network-namespace-path="+netnsPath(h.lab.network.name(h.Name)),
		"--register=no", "--keep-unit", // this machine may have no service manager
		"--link-journal=no", "--resolv-conf=off", "--timezone=off", // the host has its own files
		// On a real machine a service may use Landlock; nspawn's default filter blocks it.
		"--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
		"--console=read-only", "--setenv=SYSTEMD_COLORS=0", "--", "systemd.show_status=yes")
	// systemd needs the unified hierarchy, also where this machine has the hybrid one.
	p.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	p.Stdout, p.Stderr = console, console
	if err := h.lab.run.start(h.Name, p); err != nil {
		return err
	}
	m.nspawn = p
	return nil
}

func (m *machine) alive() bool {
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// pid1 returns the pid of the host's PID 1. It changes with a reboot.
func (m *machine) pid1() (int, error) {
	if !m.alive() {
		return 0, errOff
	}
	m.mu.Lock()
	nspawn := strconv.Itoa(m.nspawn.Process.Pid)
	m.mu.Unlock()
	children, err := os.ReadFile(filepath.Join("/proc", nspawn, "task", nspawn, "children"))
	if err != nil {
		return 0, fmt.Errorf("find PID 1: %w", err)
	}
	for pid := range strings.FieldsSeq(string(children)) {
		status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if err == nil && isPID1(string(status)) {
			return strconv.Atoi(pid)
		}
	}
	return 0, errors.New("find PID 1: not started yet")
}

// isPID1 reports whether a /proc/PID/status belongs to process 1 of a namespace: the line
// "NSpid: 4711 1".
func isPID1(status string) bool {
	for line := range strings.Lines(status) {
		if pids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(pids)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}

// kill kills every process of the host, and returns when all have ended.
func (m *machine) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m.mu.Lock()
	m.killed = true
	m.mu.Unlock()
	cgroup, err := m.host.lab.run.cgroup(m.host.Name)
	if err != nil {
		return err
	}
	if err := killCgroup(ctx, cgroup); err != nil {
		return err
	}
	// On Linux 6.18 a killed cgroup kills every process that is started in it, so the next
	// boot needs a new one.
	if err := poll(ctx, 10*time.Millisecond, func() (bool, error) { return removeCgroupTree(cgroup) }); err != nil {
		return err
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return errors.New("wait for systemd-nspawn: still running")
	}
}

// maxPause is the longest pause between two calls of poll's function.
const maxPause = 2 * time.Second

// poll calls done at this interval until it returns true or an error, or the context
// ends. It pauses longer when done is slow, because polling must not slow down the work.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	for {
		began := time.Now()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(max(every, min(9*time.Since(began), maxPause))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
