package experiment

import (
	"fmt"
	"path/filepath"

	"cis490/internal/config"
)

// The defaults and bounds of a machine.
const (
	DefaultMemory = 512 << 20
	DefaultCPUs   = 1
	DefaultQMPHz  = 2
	minMemory     = 16 << 20
	maxMemory     = 1 << 40
	maxCPUs       = 64
)

// Machine is a QEMU virtual machine that a profile may have in place of a command. It boots
// from its kernel, or else from its disk, and has no network. It discards its writes: the
// files named here are only read.
type Machine struct {
	Kernel string      `toml:"kernel"` // path
	Initrd string      `toml:"initrd"` // path; "": none
	Append string      `toml:"append"` // appended to the kernel's command line
	Disk   string      `toml:"disk"`   // path; qcow2 by its name, else raw; "": none
	Memory config.Size `toml:"memory"`
	CPUs   int         `toml:"cpus"`
}

func (m *Machine) fill() {
	if m.Memory == 0 {
		m.Memory = DefaultMemory
	}
	if m.CPUs == 0 {
		m.CPUs = DefaultCPUs
	}
}

// Demands returns the cores and the bytes of memory that the machine uses. They are 0 for a
// command, whose demands are unknown.
func (p Profile) Demands() (cores int, memory int64) {
	if p.Machine == nil {
		return 0, 0
	}
	return p.Machine.CPUs, int64(p.Machine.Memory)
}

func (f *faults) machine(at string, m Machine) {
	if m.Kernel == "" && m.Disk == "" {
		f.add(at+"kernel", "want a kernel or a disk to boot from")
	}
	if m.Kernel == "" && m.Initrd+m.Append != "" {
		f.add(at+"kernel", "initrd and append want a kernel")
	}
	for _, p := range []struct{ key, path string }{{"kernel", m.Kernel}, {"initrd", m.Initrd}, {"disk", m.Disk}} {
		if p.path != "" && (!filepath.IsAbs(p.path) || filepath.Clean(p.path) != p.path) {
			f.add(at+p.key, "want an absolute, clean path, got %q", p.path)
		}
	}
	if m.Memory != 0 && (m.Memory < minMemory || m.Memory > maxMemory) {
		f.add(at+"memory", "want 16 MiB to 1 TiB, got %s", text(m.Memory))
	}
	if m.CPUs < 0 || m.CPUs > maxCPUs {
		f.add(at+"cpus", "want 1 to %d, got %d", maxCPUs, m.CPUs)
	}
}

func text(s config.Size) string {
	b, err := s.MarshalText()
	if err != nil {
		return fmt.Sprint(int64(s))
	}
	return string(b)
}
