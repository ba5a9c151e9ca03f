package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

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
	at := path
	st, err := disk.OS{}.Statfs(at)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		st, err = disk.OS{}.Statfs(at)
	}
	if err != nil {
		return nil // the folder's users report it
	}
	return judge(path, at, int64(st.Type), int64(st.Flags), programs)
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

// Fit returns a check that the machine can run the services.
func Fit(data string) func(context.Context) check.Result {
	return func(context.Context) check.Result {
		err := UserNamespaces("/")
		if err == nil {
			err = FileSystem(data, false)
		}
		if err != nil {
			return check.Failf("%v (%s)", err, fault.FixOf(err))
		}
		return check.Passf("limits and file system suit the services")
	}
}
