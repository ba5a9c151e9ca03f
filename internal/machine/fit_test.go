package machine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cis490/internal/fault"
	"cis490/internal/machine"
)

// TestUserNamespaces_TheSitesDropIn: a machine whose limit is 0 is refused; with the fix
// applied it is accepted.
func TestUserNamespaces_TheSitesDropIn(t *testing.T) {
	for name, c := range map[string]struct {
		limit, dropIn string
		refused       bool
	}{
		"room":              {"10000\n", "", false},
		"kernel without":    {"", "", false},
		"none":              {"0\n", "", true},
		"shared":            {"0\n", "[Service]\nPrivateUsers=no\n", false},
		"shared, CR LF":     {"0\n", "\ufeff[Service]\r\nPrivateUsers = false\r\n", false},
		"commented out":     {"0\n", "[Service]\n# PrivateUsers=no\n", true},
		"of something else": {"0\n", "[Service]\nPrivateTmp=no\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, content := range map[string]string{
				"proc/sys/user/max_user_namespaces":              c.limit,
				"etc/systemd/system/cis490-.service.d/site.conf": c.dropIn,
			} {
				if content == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := machine.UserNamespaces(root)
			if (err != nil) != c.refused || c.refused && fault.FixOf(err) != machine.NoUserNamespaces {
				t.Error(err)
			}
		})
	}
}

func TestUnfit(t *testing.T) {
	for kind, want := range map[int64]string{
		unix.EXFAT_SUPER_MAGIC: "exFAT", unix.MSDOS_SUPER_MAGIC: "FAT", unix.NFS_SUPER_MAGIC: "NFS",
		0xfe534d42: "SMB", -(1<<32 - 0xff534d42): "SMB",
		unix.EXT4_SUPER_MAGIC: "", unix.BTRFS_SUPER_MAGIC: "", unix.OVERLAYFS_SUPER_MAGIC: "", unix.TMPFS_MAGIC: "",
	} {
		if got := machine.Unfit(kind); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%#x: %q, want %q", kind, got, want)
		}
	}
}

// TestFileSystem_AsMounted mounts file systems, so it needs root.
func TestFileSystem_AsMounted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	for options, c := range map[string]struct {
		flags    uintptr
		programs bool
		want     string
	}{
		"noexec":            {unix.MS_NOEXEC, true, "mounted noexec"},
		"noexec, no matter": {unix.MS_NOEXEC, false, ""},
		"read-only":         {unix.MS_RDONLY, false, "mounted read-only"},
		"usual":             {0, true, ""},
	} {
		t.Run(options, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("none", dir, "tmpfs", c.flags, ""); err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
			err := machine.FileSystem(filepath.Join(dir, "not", "there"), c.programs)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Error(err)
			}
			if err != nil && !strings.Contains(fault.FixOf(err), "-T "+dir) {
				t.Error(fault.FixOf(err))
			}
		})
	}
}
