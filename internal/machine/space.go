package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/disk"
)

// Space describes a file system in bytes and files.
type Space struct {
	Free, Total           int64 // free for users other than root
	FreeFiles, TotalFiles int64 // both 0 if the file system does not count them
}

// SpaceOf returns the space of the file system that contains a path.
func SpaceOf(path string) (Space, error) {
	s, err := disk.OS{}.Statfs(path)
	if err != nil {
		return Space{}, err
	}
	size := int64(s.Bsize) // 32 bits wide on arm
	return Space{int64(s.Bavail) * size, int64(s.Blocks) * size, int64(s.Ffree), int64(s.Files)}, nil
}

// Reserve is the check that the file system of dir has more than a reserve free. It warns
// below one and a half times the reserve, before the limit is reached.
func Reserve(dir string, reserve int64) check.Result {
	s, err := SpaceOf(dir)
	if err != nil {
		return Unreadable(err)
	}
	free := fmt.Sprintf("%s: %s free of %s, reserve %s", dir,
		humanize.IBytes(uint64(s.Free)), humanize.IBytes(uint64(s.Total)), humanize.IBytes(uint64(reserve)))
	switch {
	case s.Free < reserve:
		return check.Failf("%s", free)
	case s.Free < reserve+reserve/2:
		return check.Warnf("%s", free)
	}
	return check.Passf("%s", free)
}

// Inodes is the check that a file system has inodes left.
func Inodes(dir string) check.Result {
	s, err := SpaceOf(dir)
	if err != nil {
		return Unreadable(err)
	}
	if s.TotalFiles == 0 {
		return check.Passf("%s: the file system does not limit the number of files", dir)
	}
	percent := 100 * s.FreeFiles / s.TotalFiles
	detail := fmt.Sprintf("%s: %d of %d inodes free (%d %%)", dir, s.FreeFiles, s.TotalFiles, percent)
	switch {
	case s.FreeFiles < 1000 || percent < 1:
		return check.Failf("%s", detail)
	case percent < 5:
		return check.Warnf("%s", detail)
	}
	return check.Passf("%s", detail)
}

// WithSudo ends the detail of a check that was skipped because this user lacks rights.
const WithSudo = "run doctor with sudo"

// Unreadable is the result for something that this user may not read, or that failed to be
// read.
func Unreadable(err error) check.Result {
	if errors.Is(err, fs.ErrPermission) {
		return check.Skipf("%v: "+WithSudo, err)
	}
	return check.Failf("%v", err)
}

// Awake returns how long the machine has run, without its sleep.
func Awake() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// UserName returns the name of a user id, or the id as text.
func UserName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}
