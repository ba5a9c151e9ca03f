package machine_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/disk"
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

// TestFit_InASandbox: a folder that only this process sees read-only is writable for
// the services; a read-only file system is not. It mounts, so it needs root.
func TestFit_InASandbox(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	for name, c := range map[string]struct {
		flags uintptr
		want  check.Status
	}{
		"a view of it is read-only": {unix.MS_BIND, check.Pass},
		"it is read-only":           {0, check.Fail},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
			if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY|c.flags, ""); err != nil {
				t.Fatal(err)
			}
			if r := machine.Fit(dir)(t.Context()); r.Status != c.want {
				t.Errorf("%s: %s", r.Status, r.Detail)
			}
		})
	}
}

// share is a disk on which a call fails as on a file system that lacks it.
type share struct {
	disk.OS
	links, syncs, locks, modes error
}

func (s share) Link(from, to string) error { return errors.Join(s.links, s.OS.Link(from, to)) }

func (s share) SyncDir(name string) error { return errors.Join(s.syncs, s.OS.SyncDir(name)) }

func (s share) Chmod(name string, mode fs.FileMode) error {
	if errors.Is(s.modes, errIgnored) {
		return nil
	}
	return errors.Join(s.modes, s.OS.Chmod(name, mode))
}

func (s share) Lock(name string) (io.Closer, error) {
	if s.locks != nil {
		return nil, s.locks
	}
	return s.OS.Lock(name)
}

var errIgnored = errors.New("ignored")

// TestTakes: a folder whose file system lacks one of the calls is refused by its name, and
// nothing is left there. Temporary faults and missing rights are not reported here.
func TestTakes(t *testing.T) {
	lacks := func(errno error) error { return fmt.Errorf("%w: %w", errno, disk.ErrUnsupported) }
	for name, c := range map[string]struct {
		s    share
		want string
	}{
		"local":               {share{}, ""},
		"FAT":                 {share{links: unix.EPERM}, "without links"},
		"exFAT over FUSE":     {share{links: lacks(unix.ENOSYS)}, "without links"},
		"SMB":                 {share{syncs: lacks(unix.EINVAL)}, "without syncs"},
		"NFS without lockd":   {share{locks: lacks(unix.ENOLCK)}, "without locks"},
		"modes are refused":   {share{modes: unix.EPERM}, "without modes"},
		"modes are ignored":   {share{modes: errIgnored}, "without modes"},
		"the disk is full":    {share{syncs: unix.ENOSPC}, ""},
		"the disk is failing": {share{links: unix.EIO}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := machine.Takes(c.s, filepath.Join(dir, "not", "there"))
			said := err != nil && strings.Contains(err.Error(), c.want) && strings.Contains(fault.FixOf(err), "-T "+dir)
			if said != (c.want != "") {
				t.Errorf("%v, want %q", err, c.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left: %v %v", left, err)
			}
		})
	}
	if err := machine.Takes(disk.OS{}, "/proc/not/there"); err != nil {
		t.Error(err)
	}
}
