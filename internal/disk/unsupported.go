package disk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrUnsupported reports a call that the file system does not support.
var ErrUnsupported = errors.New("the file system does not support this; use a local one, such as ext4 or XFS")

// unsupported explains the errors with which a file system refuses a call that is right:
// "invalid argument" and "bad file descriptor" name neither the file system nor the reason.
func unsupported(err error) error {
	for _, refusal := range []error{unix.EINVAL, unix.EBADF, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOLCK} {
		if errors.Is(err, refusal) {
			return fmt.Errorf("%w: %w", err, ErrUnsupported)
		}
	}
	return err
}
