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

// oldestSystemd is the minimum version for the units (Debian 12).
const oldestSystemd = 252

// Preflight returns an error if the services could not run on this machine. It changes
// nothing.
func Preflight(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	if err != nil {
		return fmt.Errorf("query systemd's version: %w", err)
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

// lasting returns an error if a folder is on a file system that cannot keep data. It
// accepts the folder if the role is installed already; doctor reports it then.
func (p *Plan) lasting(dir string) error {
	err := machine.FileSystem(p.at(dir), false)
	if err == nil || p.has(p.Role) {
		return nil
	}
	return fmt.Errorf("%w (%s)", err, fault.FixOf(err))
}

// tried rejects data folders on a file system without what data needs, before anything is
// changed. It tries, because not every such file system has a known number. A simulated
// machine's is not tried.
func (p *Plan) tried() error {
	fsys, ok := p.FS.(disk.OS)
	if !ok || p.has(p.Role) {
		return nil
	}
	dirs := []string{p.lab.DataDir}
	if p.Role == Receiver {
		dirs = []string{p.rx.DataDir, p.rx.Authority.Dir}
	}
	for _, dir := range dirs {
		if err := machine.Takes(fsys, p.at(dir)); err != nil {
			return err
		}
	}
	return nil
}

// newEnough checks the output of systemctl --version, which begins "systemd 252 (". It
// accepts an unknown format.
func newEnough(printed string) error {
	fields := strings.Fields(printed)
	if len(fields) < 2 {
		return nil
	}
	number, _, _ := strings.Cut(fields[1], "~") // 255~rc1
	number, _, _ = strings.Cut(number, ".")
	if v, err := strconv.Atoi(number); err == nil && v < oldestSystemd {
		return fault.Fix(fmt.Errorf("systemd %d is too old, the services need %d or newer", v, oldestSystemd),
			"cat /etc/os-release   # upgrade to a release with a newer systemd, such as Debian 12, Ubuntu 24.04 or RHEL 9; nothing was changed")
	}
	return nil
}

// namespaces tries what systemd does for each service, because limits, containers and
// kernels can each forbid it in another way.
func namespaces(ctx context.Context) error {
	if err := namespace(ctx, syscall.CLONE_NEWUSER); err != nil && !machine.SharesUsers("/") {
		return fault.Fix(fmt.Errorf("services cannot have a user namespace here: %w", err), machine.NoUserNamespaces)
	}
	// A container that forbids mounts returns EPERM: systemd then continues without.
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
	_ = cmd.Wait() // it started, which is all that matters
	return nil
}
