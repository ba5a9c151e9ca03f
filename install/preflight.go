package install

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/machine"
)

// oldestSystemd is the version that the units are written for: that of Debian 12.
const oldestSystemd = 252

// Preflight refuses a machine that the services could not run on, before anything on
// it is changed.
func Preflight(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	if err != nil {
		return fmt.Errorf("ask systemd for its version: %w", err)
	}
	if err := newEnough(string(out)); err != nil {
		return err
	}
	for _, f := range []struct {
		path     string
		programs bool
	}{{optDir, true}, {command, false}, {configDir, false}, {unitDir, false}} {
		if err := machine.FileSystem(f.path, f.programs); err != nil {
			return err
		}
	}
	return namespaces(ctx)
}

// lasting refuses a folder on a file system that cannot keep data. On a machine that
// has the role, the data is there already, and doctor says so.
func (p *Plan) lasting(dir string) error {
	err := machine.FileSystem(p.at(dir), false)
	if err == nil || p.has(p.Role) {
		return nil
	}
	return fmt.Errorf("%w (%s)", err, fault.FixOf(err))
}

// tried refuses folders for data on a file system that does not do what data needs, before
// anything is changed: not every such file system has a number that is known.
func (p *Plan) tried() error {
	if p.has(p.Role) {
		return nil
	}
	dirs := []string{p.lab.DataDir}
	if p.Role == Receiver {
		dirs = []string{p.rx.DataDir, p.rx.Authority.Dir}
	}
	for _, dir := range dirs {
		if err := machine.Takes(disk.OS{}, p.at(dir)); err != nil {
			return err
		}
	}
	return nil
}

// newEnough judges what systemctl --version prints, which begins "systemd 252 (".
// A version that it cannot read is no reason to refuse.
func newEnough(printed string) error {
	fields := strings.Fields(printed)
	if len(fields) < 2 {
		return nil
	}
	number, _, _ := strings.Cut(fields[1], "~") // 255~rc1
	number, _, _ = strings.Cut(number, ".")
	if v, err := strconv.Atoi(number); err == nil && v < oldestSystemd {
		return fault.Fix(fmt.Errorf("systemd %d is too old for the services, which need %d or newer", v, oldestSystemd),
			"cat /etc/os-release   # upgrade to a release that has it, such as Debian 12, Ubuntu 24.04 or RHEL 9; nothing was changed")
	}
	return nil
}

// namespaces tries what systemd does for each service, because limits, containers and
// kernels all can forbid it, and each shows it elsewhere.
func namespaces(ctx context.Context) error {
	if err := namespace(ctx, syscall.CLONE_NEWUSER); err != nil && !machine.SharesUsers("/") {
		return fault.Fix(fmt.Errorf("services cannot have a user namespace here: %w", err), machine.NoUserNamespaces)
	}
	// A container that forbids mounts says EPERM: systemd then goes on without.
	if err := namespace(ctx, syscall.CLONE_NEWNS); errors.Is(err, syscall.ENOSPC) {
		return fault.Fix(fmt.Errorf("services cannot have a mount namespace here: %w", err),
			"sudo sysctl -w user.max_mnt_namespaces=10000   # and in /etc/sysctl.d")
	}
	return nil
}

func namespace(ctx context.Context, flag uintptr) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "--version")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flag}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = cmd.Wait() // that it started is the answer
	return nil
}
