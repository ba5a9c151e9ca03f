package disk

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnsupported: the bare error of a file system that lacks a call says what is wrong,
// and stays the error that it was; errors with a meaning of their own are left alone.
func TestUnsupported(t *testing.T) {
	for errno, explained := range map[error]bool{
		unix.EINVAL: true, unix.EBADF: true, unix.ENOLCK: true, unix.EOPNOTSUPP: true, unix.ENOSYS: true,
		unix.ENOSPC: false, unix.EIO: false, unix.EACCES: false, ErrLocked: false,
	} {
		err := unsupported(&fs.PathError{Op: "fsync", Path: "/mnt/share", Err: errno})
		if !errors.Is(err, errno) || errors.Is(err, ErrUnsupported) != explained || !strings.Contains(err.Error(), "/mnt/share") {
			t.Errorf("%v", err)
		}
	}
	if unsupported(nil) != nil {
		t.Error("an error out of none")
	}
}
