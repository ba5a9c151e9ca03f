package machine_test

import (
	"os"
	"path/filepath"
	"testing"

	"cis490/internal/machine"
)

func TestReadHardware_OfThisMachine(t *testing.T) {
	h := machine.ReadHardware("/")
	if h.Cores < 1 || h.RAM < 1<<20 || h.Kernel == "" || h.Architecture == "" || h.Virtualization == "" {
		t.Errorf("%+v", h)
	}
}

func TestReadHardware_NamesSystemAndVirtualization(t *testing.T) {
	for name, c := range map[string]struct {
		files              map[string]string
		system, virtualize string
	}{
		"bare metal": {map[string]string{"etc/os-release": "ID=x\nPRETTY_NAME=\"Debian 13\"\n"}, "Debian 13", "none"},
		"container":  {map[string]string{"run/systemd/container": "systemd-nspawn\n", "sys/hypervisor/type": "xen\n"}, "", "systemd-nspawn"},
		"qemu":       {map[string]string{"sys/class/dmi/id/sys_vendor": "QEMU\n", "usr/lib/os-release": "PRETTY_NAME=A\n"}, "A", "kvm"},
		"hyper-v":    {map[string]string{"sys/class/dmi/id/product_name": "Virtual Machine\n"}, "", "microsoft"},
		"unknown vm": {map[string]string{"proc/cpuinfo": "flags\t\t: fpu hypervisor\n"}, "", "vm-other"},
		"hostile":    {map[string]string{"etc/os-release": "PRETTY_NAME=a\x1b[31mb\n"}, "a [31mb", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range c.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			h := machine.ReadHardware(root)
			if h.Distribution != c.system || h.Virtualization != c.virtualize || h.KVM {
				t.Errorf("got %q, %q, KVM %v; want %q, %q", h.Distribution, h.Virtualization, h.KVM, c.system, c.virtualize)
			}
		})
	}
}
