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

// errOff says that a host has no PID 1 to run a command beside.
var errOff = errors.New("the host is off")

// exitReboot is how systemd-nspawn asks to be started again: the host rebooted.
const exitReboot = 133

// A machine is one run of a host, from power-on to power-off, with the reboots in
// between: a systemd-nspawn process, and PID 1 as its child.
//
// The cgroup is what makes hosts separate and mortal. Without one of its own, a
// container's systemd builds its units' tree in the cgroup the test runs in, and
// all hosts share, and stop, each other's units. And killing nspawn alone leaves
// its PID 1 running: only cgroup.kill takes the whole host at once.
type machine struct {
	host  *Host
	ended chan struct{} // closed when nspawn has exited and is not started again

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
			_ = m.nspawn.Wait() // how it ended is on the console
			if m.nspawn.ProcessState.ExitCode() != exitReboot || m.start() != nil {
				return
			}
		}
	}()
	return m, nil
}

// start runs nspawn; not once the machine was killed.
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
		"--register=no", "--keep-unit", // asks no service manager of this machine
		"--link-journal=no", "--resolv-conf=off", "--timezone=off", // keeps the host's own files
		// On metal a service may confine itself; nspawn's own list has not heard of it.
		"--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
		"--console=read-only", "--setenv=SYSTEMD_COLORS=0", "--", "systemd.show_status=yes")
	// The unified hierarchy is what systemd needs, also where this machine still
	// runs the hybrid one.
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

// pid1 finds the host's PID 1, which is another one after a reboot.
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
	// A cgroup that was killed once kills what is started into it (seen on Linux
	// 6.18), so the next boot has to make a new one.
	if err := poll(ctx, 10*time.Millisecond, func() (bool, error) { return removeCgroupTree(cgroup) }); err != nil {
		return err
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return errors.New("wait for systemd-nspawn: it is still there")
	}
}

// maxPause is the longest that a poll waits for its next question.
const maxPause = 2 * time.Second

// poll asks done every interval until it says so, fails, or the context ends. On a
// busy machine it asks more rarely: who waits must not be what others wait for.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	for {
		began := time.Now()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(max(every, min(4*time.Since(began), maxPause))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
