package machine

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

// maxFact bounds a fact, in characters.
const maxFact = 120

// ReadHardware reads the facts from /proc, /sys and /etc below root, the machine's root
// folder. KVM reports whether this process may use /dev/kvm.
func ReadHardware(root string) wire.Hardware {
	h := wire.Hardware{
		Cores: runtime.NumCPU(), Architecture: runtime.GOARCH,
		Kernel: kernelRelease(), Distribution: distribution(root), Virtualization: virtualization(root),
	}
	if f, err := (disk.OS{}).OpenFile(filepath.Join(root, "dev/kvm"), os.O_RDWR, 0); err == nil {
		h.KVM = f.Close() == nil
	}
	if proc, err := procfs.NewFS(filepath.Join(root, "proc")); err == nil {
		if m, err := proc.Meminfo(); err == nil && m.MemTotalBytes != nil {
			h.RAM = int64(min(*m.MemTotalBytes, 1<<62))
		}
		if c, err := proc.CPUInfo(); err == nil && len(c) > 0 {
			h.CPU = plain.Line(strings.TrimSpace(c[0].ModelName), maxFact)
		}
	}
	return h
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// distribution returns PRETTY_NAME of os-release(5).
func distribution(root string) string {
	text := fact(root, "etc/os-release")
	if text == "" {
		text = fact(root, "usr/lib/os-release")
	}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return plain.Line(strings.Trim(name, `"'`), maxFact)
		}
	}
	return ""
}

// virtualization names what the machine runs in: a container, else a hypervisor.
func virtualization(root string) string {
	if name := strings.TrimSpace(fact(root, "run/systemd/container")); name != "" {
		return plain.Line(name, maxFact)
	}
	if kind := strings.TrimSpace(fact(root, "sys/hypervisor/type")); kind != "" {
		return plain.Line(kind, maxFact)
	}
	vendor := fact(root, "sys/class/dmi/id/sys_vendor") + fact(root, "sys/class/dmi/id/product_name")
	for _, v := range []struct{ part, name string }{
		{"QEMU", "kvm"},
		{"KVM", "kvm"},
		{"VMware", "vmware"},
		{"VirtualBox", "oracle"},
		{"innotek", "oracle"},
		{"Virtual Machine", "microsoft"},
		{"Amazon EC2", "amazon"},
		{"Google Compute Engine", "google"},
		{"Parallels", "parallels"},
		{"Xen", "xen"},
	} {
		if strings.Contains(vendor, v.part) {
			return v.name
		}
	}
	if strings.Contains(fact(root, "proc/cpuinfo"), " hypervisor") {
		return "vm-other"
	}
	return "none"
}

// fact returns a small file's text, or "" if it cannot be read.
func fact(root, path string) string {
	b, err := disk.ReadFile(disk.OS{}, filepath.Join(root, path), disk.Small)
	if err != nil {
		return ""
	}
	return string(b)
}
