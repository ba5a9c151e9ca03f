package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Limits for a boot and a shutdown. A host needs a second or two; a fleet that starts on
// two busy cores needs more.
const (
	bootLimit     = 2 * time.Minute
	powerOffLimit = 2 * time.Minute
)

// A Host is one machine of the lab. Its disk survives PowerOff, Crash and Start.
type Host struct {
	// Name is the host's name; Addr its address on the lab's switch.
	Name, Addr string

	lab     *Lab
	number  int
	dir     string // on this machine: the overlay and the console's output
	tmpfs   []tmpfs
	disk    string   // size of a disk of its own; "": this machine's
	more    []string // packages that other hosts do not have
	image   string
	machine *machine // nil while the host is off
}

// An Option changes how a host is built.
type Option func(*Host)

// WithTmpfs mounts a separate small disk at path, for scenarios that fill it. Size is as
// in mount(8): "64M". The disk survives PowerOff and Crash.
func WithTmpfs(path, size string) Option {
	return func(h *Host) { h.tmpfs = append(h.tmpfs, tmpfs{path, size}) }
}

// WithPackages gives the host an image of its own, with more of Debian's packages.
func WithPackages(packages ...string) Option {
	return func(h *Host) { h.more = append(h.more, packages...) }
}

func newHost(l *Lab, name string, number int, options []Option) *Host {
	h := &Host{
		Name: name, Addr: l.network.addr(number),
		lab: l, number: number, dir: filepath.Join(l.run.dir, "hosts", name),
	}
	for _, option := range options {
		option(h)
	}
	return h
}

// create creates the host's disk and network, and boots it.
func (h *Host) create() (err error) {
	if h.image = h.lab.image; len(h.more) > 0 {
		cache, err := cacheDir()
		if err != nil {
			return err
		}
		if h.image, err = debian(h.more...).ensure(cache, h.lab.run, h.lab.tb.Logf); err != nil {
			return err
		}
	}
	if err := h.lab.run.create(h.build); err != nil {
		return err
	}
	return h.boot()
}

func (h *Host) build() error {
	if err := errors.Join(h.format(), h.mount()); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(h.root(), "etc/hostname"), []byte(h.Name+"\n"), 0o644); err != nil {
		return fmt.Errorf("name the host: %w", err)
	}
	if err := h.writeNames(h.lab.all()); err != nil {
		return err
	}
	return h.lab.network.attach(h)
}

// Start boots a host that is off, and returns once systemd has finished starting.
func (h *Host) Start() {
	h.lab.tb.Helper()
	if h.on() {
		h.lab.tb.Fatalf("lab: start %s: already running", h.Name)
	}
	if err := h.boot(); err != nil {
		h.lab.tb.Fatalf("lab: start %s: %v", h.Name, err)
	}
}

// PowerOff shuts the host down cleanly, and returns when it is off.
func (h *Host) PowerOff() {
	h.lab.tb.Helper()
	m := h.mustBeOn("power off")
	ctx, cancel := context.WithTimeout(context.Background(), powerOffLimit)
	defer cancel()
	// The host may be gone before the command ends.
	_, _ = h.command(ctx, nil, "systemctl", "poweroff", "--no-wall")
	select {
	case <-m.ended:
	case <-ctx.Done():
		h.lab.tb.Fatalf("lab: power off %s: still up after %v\n%s", h.Name, powerOffLimit, h.consoleTail())
	}
	h.halt("power off")
}

// Crash kills every process of the host at once. Written data stays, synced or not,
// because the kernel is this machine's. Log lines on their way to the journal are lost.
func (h *Host) Crash() {
	h.lab.tb.Helper()
	h.mustBeOn("crash")
	h.halt("crash")
}

func (h *Host) halt(verb string) {
	h.lab.tb.Helper()
	if err := h.machine.kill(); err != nil {
		h.lab.tb.Fatalf("lab: %s %s: %v", verb, h.Name, err)
	}
	h.machine = nil
}

func (h *Host) boot() error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	m, err := startMachine(h)
	if err != nil {
		return err
	}
	h.machine = m
	state, err := h.systemState(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, h.consoleTail())
	}
	h.lab.tb.Logf("lab %s: %s (%s) is %s after %v", h.lab.run.id, h.Name, h.Addr, state, time.Since(began).Round(time.Millisecond))
	if state == "degraded" {
		res, err := h.command(ctx, nil, "systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
		if err != nil {
			return err
		}
		h.lab.tb.Logf("lab %s: units that failed on %s:\n%s", h.lab.run.id, h.Name, res.Out)
	}
	return nil
}

// systemState waits until systemd is running or degraded, and returns which. Until
// systemd listens, systemctl fails in various ways; each of them means "retry".
func (h *Host) systemState(ctx context.Context) (string, error) {
	var state string
	var last error
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		res, err := h.command(ctx, nil, "systemctl", "is-system-running", "--wait")
		if errors.Is(err, errOff) {
			return false, err
		}
		state, last = strings.TrimSpace(res.Out+res.Err), err
		return state == "running" || state == "degraded", nil
	})
	if err != nil {
		return "", fmt.Errorf("wait for systemd: %w", errors.Join(err, last, fmt.Errorf("last answer %q", state)))
	}
	return state, nil
}

func (h *Host) on() bool {
	return h.machine != nil && h.machine.alive()
}

func (h *Host) mustBeOn(verb string) *machine {
	h.lab.tb.Helper()
	if !h.on() {
		h.lab.tb.Fatalf("lab: %s %s: the host is off\n%s", verb, h.Name, h.consoleTail())
	}
	return h.machine
}

// root returns the mount point of the host's disk on this machine.
func (h *Host) root() string { return filepath.Join(h.dir, "root") }

func (h *Host) console() string { return filepath.Join(h.dir, "console") }

func (h *Host) consoleTail() string {
	text, err := os.ReadFile(h.console())
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "console of " + h.Name + ":\n" + strings.Join(lines[max(0, len(lines)-30):], "\n")
}
