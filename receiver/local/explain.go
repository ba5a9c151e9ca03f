package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/machine"
)

// explain adds to an error the owner of the file, or what else is wrong with it, and the
// fix.
func (o Options) explain(err error) error {
	path := o.Dir
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		path = at.Path
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		// If the file does not exist, or is this user's, the cause is its folder.
		for ; ; path = filepath.Dir(path) {
			fi, stat := o.FS.Lstat(path)
			if stat == nil {
				if uid, known := disk.Owner(fi); known && uid != os.Geteuid() {
					me := machine.UserName(uint32(os.Geteuid()))
					return fault.Fix(fmt.Errorf("%w: %s belongs to %s, serve runs as %s", err, path, machine.UserName(uint32(uid)), me),
						"sudo chown "+strings.TrimPrefix(me, "uid ")+": "+path)
				}
			}
			if path == o.Dir || path == filepath.Dir(path) {
				return err
			}
		}
	case errors.Is(err, unix.EISDIR):
		return fault.Fix(err, "sudo mv "+path+" "+path+".away   # a folder is where the file belongs")
	case errors.Is(err, unix.EROFS):
		return fault.Fix(err, "sudo dmesg | tail; findmnt -T "+path+"   # mount it for writing again")
	case errors.Is(err, unix.EIO) && fault.FixOf(err) == "":
		return fault.Fix(err, "sudo dmesg | tail; findmnt -T "+path+"   # the disk fails: mend it, or move the receiver to another one")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.Fix(err, "df -h "+path+"   # free space there")
	}
	return err
}
