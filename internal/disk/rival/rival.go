// Package rival is another user of a folder, for tests: one with fewer rights, who
// gives nothing up and exchanges names as fast as the kernel allows.
package rival

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// User is the rival's user and group id.
const User = 65534

// Give gives a folder and all below it to the rival. It skips the test for those who
// cannot.
func Give(tb testing.TB, dir string) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root, to have a user with fewer rights")
	}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, User, User)
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Exchange exchanges two names in a loop, as renameat2(2) does, until stop is
// called, which leaves them as they were. It is an error if it never could.
func Exchange(tb testing.TB, a, b string) (stop func()) {
	tb.Helper()
	over := make(chan struct{})
	var loop sync.WaitGroup
	n := 0
	loop.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) == nil {
					n++
				}
			}
		}
	})
	return func() {
		tb.Helper()
		close(over)
		loop.Wait()
		if n%2 == 1 {
			_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) // or one of them is gone
		}
		if n == 0 {
			tb.Errorf("%s and %s were never exchanged", a, b)
		}
	}
}
