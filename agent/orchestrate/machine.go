package orchestrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/experiment"
	"cis490/internal/fault"
)

// probeFor bounds the test start of a machine with KVM.
const probeFor = 20 * time.Second

// board holds QEMU's names for a machine of this architecture.
type board struct{ program, pkg, machine, console string }

func boardOf(arch string) (board, error) {
	switch arch {
	case "amd64":
		return board{"qemu-system-x86_64", "qemu-system-x86", "q35", "ttyS0"}, nil
	case "arm64":
		return board{"qemu-system-aarch64", "qemu-system-arm", "virt", "ttyAMA0"}, nil
	}
	return board{}, fmt.Errorf("no QEMU machine type defined for %s", arch)
}

// hypervisor runs virtual machines on this host.
type hypervisor struct {
	board board
	err   error // from boardOf

	once  sync.Once
	noKVM string // why KVM is unavailable, or ""
}

func newHypervisor() *hypervisor {
	b, err := boardOf(runtime.GOARCH)
	return &hypervisor{board: b, err: err}
}

// argv returns the command that runs a machine. Its events and its QMP go to two sockets
// that are already listening. note mentions software emulation. A missing program or file
// is an error, because the episode could only fail.
func (h *hypervisor) argv(ctx context.Context, m experiment.Machine, events, qmp string) (argv []string, note string, err error) {
	if h.err != nil {
		return nil, "", h.err
	}
	if _, err := exec.LookPath(h.board.program); err != nil {
		return nil, "", fault.Fix(fmt.Errorf("run a machine: %w", err), "sudo apt-get install -y --no-install-recommends "+h.board.pkg)
	}
	for _, path := range []string{m.Kernel, m.Initrd, m.Disk} {
		if err := readable(path); err != nil {
			return nil, "", fault.Fix(fmt.Errorf("run a machine: %w", err),
				"put the file on this host, readable for user cis490-rec, or remove the profile from the experiment")
		}
	}
	h.once.Do(func() { h.noKVM = h.probe(ctx) })
	accel := "kvm"
	if h.noKVM != "" {
		accel, note = "tcg", "no KVM, so the machine ran in software emulation: "+h.noKVM
	}
	return h.board.argv(m, accel, events, qmp), note, nil
}

func (b board) argv(m experiment.Machine, accel, events, qmp string) []string {
	a := []string{
		b.program, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", b.machine, "-accel", accel, "-cpu", "max", "-smp", fmt.Sprint(m.CPUs), "-m", fmt.Sprintf("%dM", m.Memory>>20),
		// A machine that resets itself ends; otherwise it would report its phases again.
		"-no-reboot",
		"-serial", "stdio", // the console is the command's output
		"-device", "virtio-rng-pci", "-device", "virtio-balloon-pci",
		"-chardev", "socket,id=qmp,path=" + quoted(qmp), "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=port,path=" + quoted(events),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name=cis490.events",
	}
	if b.console == "ttyS0" { // a second serial port needs no driver
		a = append(a, "-chardev", "socket,id=serial,path="+quoted(events), "-serial", "chardev:serial")
	}
	if m.Kernel != "" {
		a = append(a, "-kernel", m.Kernel, "-append", strings.TrimSpace("console="+b.console+" "+m.Append))
	}
	if m.Initrd != "" {
		a = append(a, "-initrd", m.Initrd)
	}
	if m.Disk != "" {
		format := "raw"
		if strings.HasSuffix(m.Disk, ".qcow2") {
			format = "qcow2"
		}
		// The machine's disk writes go to a file in its folder (TMPDIR).
		a = append(a, "-drive", "if=virtio,snapshot=on,format="+format+",file="+quoted(m.Disk))
	}
	return a
}

// quoted escapes a path in a QEMU option, where a comma ends a value.
func quoted(path string) string { return strings.ReplaceAll(path, ",", ",,") }

func readable(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// probe returns why KVM is unavailable, or "". An openable /dev/kvm is not enough: on a
// host that is itself a guest, it may not run this CPU. So probe starts a machine, stopped
// before its first instruction, and queries it.
func (h *hypervisor) probe(ctx context.Context) string {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	_ = f.Close() // opened only to test access
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.board.program, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", h.board.machine, "-accel", "kvm", "-cpu", "max", "-m", "64M", "-S", "-qmp", "stdio")
	cmd.Env = []string{"PATH=" + workloadPath, "LANG=C"}
	cmd.Stdin = strings.NewReader(`{"execute":"qmp_capabilities"}{"execute":"query-kvm"}{"execute":"quit"}`)
	cmd.WaitDelay = time.Second
	var said tail
	cmd.Stderr = &said
	answer, err := cmd.Output()
	switch {
	case err != nil && said.last() != "":
		return check.Sanitize(errors.Join(err, errors.New(said.last())).Error(), 300)
	case err != nil:
		return err.Error()
	case !strings.Contains(string(answer), `"enabled": true`):
		return "QEMU did not enable it"
	}
	return ""
}
