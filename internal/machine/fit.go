package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/fault"
)

// dropIns is the folder of the site's settings for all of the program's services.
const dropIns = "/etc/systemd/system/cis490-.service.d"

// NoUserNamespaces is the fix if services cannot have a user namespace.
const NoUserNamespaces = "sudo mkdir -p " + dropIns + " && printf '[Service]\\nPrivateUsers=no\\n' | sudo tee " + dropIns +
	"/users.conf   # services then share the machine's user ids; or raise user.max_user_namespaces"

var sharedUsers = regexp.MustCompile(`(?m)^\s*PrivateUsers\s*=\s*(no|false|off|0)\s*$`)

// SharesUsers reports whether the site set PrivateUsers=no for the services. root is
// the machine's root folder.
func SharesUsers(root string) bool {
	entries, err := disk.OS{}.ReadDir(filepath.Join(root, dropIns))
	if err != nil {
		return false
	}
	for _, e := range entries {
		text, err := disk.ReadText(disk.OS{}, filepath.Join(root, dropIns, e.Name()), disk.Small)
		if err == nil && strings.HasSuffix(e.Name(), ".conf") && sharedUsers.MatchString(text) {
			return true
		}
	}
	return false
}

// UserNamespaces returns an error with its fix if the machine's limit forbids the user
// namespaces that the units ask for. root is the machine's root folder.
func UserNamespaces(root string) error {
	limit := "/proc/sys/user/max_user_namespaces"
	text, err := disk.ReadText(disk.OS{}, filepath.Join(root, limit), disk.Small)
	if err != nil || strings.TrimSpace(text) != "0" || SharesUsers(root) {
		return nil // without the file, install tests the kernel
	}
	return fault.Fix(errors.New(limit+" is 0: services with PrivateUsers=yes do not start (status 217/USER)"), NoUserNamespaces)
}

// unfit lists file systems that cannot hold the program's files safely.
var unfit = map[int64]struct{ name, lacks string }{
	unix.MSDOS_SUPER_MAGIC: {"FAT", "owners, modes and links"},
	unix.EXFAT_SUPER_MAGIC: {"exFAT", "owners, modes and links"},
	unix.NFS_SUPER_MAGIC:   {"NFS", "a sync of folders that survives a power cut, and may lack locks"},
	unix.SMB_SUPER_MAGIC:   {"SMB", "owners, links and a sync of folders"},
	unix.SMB2_SUPER_MAGIC:  {"SMB", "owners, links and a sync of folders"},
	unix.CIFS_SUPER_MAGIC:  {"SMB", "owners, links and a sync of folders"},
}

// Unfit returns what a file system lacks for the program's data, or "".
func Unfit(kind int64) string {
	u, ok := unfit[kind&0xffffffff] // signed, and 32 bits wide on some machines
	if !ok {
		return ""
	}
	return u.name + ", which lacks " + u.lacks
}

// FileSystem returns an error with its fix if a folder is, or would be, on a file system
// that is read-only, lacks what data needs, or, for programs, is mounted noexec.
func FileSystem(path string, programs bool) error {
	at, st, err := nearest(path)
	if err != nil {
		return nil // the folder's users report it
	}
	return judge(path, at, int64(st.Type), int64(st.Flags), programs)
}

// nearest returns a folder, or the closest one above it that exists, and its file system.
func nearest(path string) (at string, st unix.Statfs_t, err error) {
	at = path
	st, err = disk.OS{}.Statfs(at)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		st, err = disk.OS{}.Statfs(at)
	}
	return at, st, err
}

// readOnly reports whether the file system of a folder is read-only for everyone. The
// sandbox of a service shows the folder read-only too (ProtectSystem=strict), so the
// options of the superblock decide, not those of the mount (proc_pid_mountinfo(5)).
func readOnly(folder string) bool {
	info, err := disk.Stat(disk.OS{}, folder)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	mounts, err := procfs.GetMounts()
	if !ok || err != nil {
		return false
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	return slices.ContainsFunc(mounts, func(m *procfs.MountInfo) bool {
		_, ro := m.SuperOptions["ro"]
		return ro && m.MajorMinorVer == device
	})
}

func judge(path, at string, kind, flags int64, programs bool) error {
	mounted := `"$(findmnt -nvo TARGET -T ` + at + `)"`
	switch lacks := Unfit(kind); {
	case flags&unix.ST_RDONLY != 0:
		return fault.Fix(fmt.Errorf("%s is on a file system that is mounted read-only", path), "sudo mount -o remount,rw "+mounted)
	case programs && flags&unix.ST_NOEXEC != 0:
		return fault.Fix(fmt.Errorf("%s is on a file system that is mounted noexec: no program runs there", path),
			"sudo mount -o remount,exec "+mounted+"   # and in /etc/fstab")
	case lacks != "":
		return fault.Fix(fmt.Errorf("%s is on %s", path, lacks), "findmnt -T "+at+"   # keep it on a local disk, such as one with ext4 or XFS")
	}
	return nil
}

// tried is what Takes needs of a disk.
type tried interface {
	disk.FS
	disk.Locker
	disk.Owners
}

// Takes returns an error with its fix if a folder, or the one in which it would be made, is
// on a file system that cannot keep data safe. It tries what the program does there, in a
// folder that it removes again. Where it may not write, it returns nil.
func Takes(fsys tried, path string) error {
	at := path
	for at != filepath.Dir(at) {
		if fi, err := disk.Stat(fsys, at); err == nil && fi.IsDir() {
			break
		}
		at = filepath.Dir(at)
	}
	dir := filepath.Join(at, fmt.Sprintf(".cis490-trial-%d", os.Getpid()))
	if fsys.Mkdir(dir, 0o700) != nil {
		return nil // whoever uses the folder reports it
	}
	what, err := try(fsys, dir)
	_ = disk.RemoveAll(fsys, dir) // it is empty, or the error says more
	if errors.Is(err, disk.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		return fault.Fix(fmt.Errorf("%s is on a file system without %s: %w", path, what, err),
			"findmnt -T "+at+"   # keep it on a local disk, such as one with ext4 or XFS")
	}
	return nil
}

// errMode reports a file that did not take its mode.
var errMode = fmt.Errorf("a mode was set and is another: %w", disk.ErrUnsupported)

func try(fsys tried, dir string) (what string, err error) {
	name := filepath.Join(dir, "file")
	if err := disk.ReplaceBytes(fsys, name, 0o600, []byte("x")); err != nil {
		return "syncs", err
	}
	if err := disk.Chmod(fsys, name, 0o640); err != nil {
		return "modes", err
	}
	if fi, err := fsys.Lstat(name); err == nil && fi.Mode().Perm() != 0o640 {
		return "modes", errMode
	}
	if err := fsys.Link(name, filepath.Join(dir, "link")); err != nil {
		return "links", err
	}
	lock, err := fsys.Lock(dir)
	if err != nil {
		return "locks", err
	}
	return "locks", errors.Join(lock.Close(), fsys.Remove(filepath.Join(dir, disk.LockName)))
}

// Fit returns a check that the machine can run the services.
func Fit(data string) func(context.Context) check.Result {
	return func(context.Context) check.Result {
		err := UserNamespaces("/")
		if at, st, serr := nearest(data); err == nil && serr == nil {
			flags := int64(st.Flags)
			if flags&unix.ST_RDONLY != 0 && !readOnly(at) {
				flags &^= unix.ST_RDONLY
			}
			err = judge(data, at, int64(st.Type), flags, false)
		}
		if err != nil {
			return check.Failf("%v (%s)", err, fault.FixOf(err))
		}
		return check.Passf("limits and file system suit the services")
	}
}
