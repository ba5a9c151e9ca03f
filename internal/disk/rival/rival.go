// Package rival simulates, in tests, another user of a folder, with fewer rights, who swaps
// names as fast as the kernel allows.
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

// Give changes the owner of a tree to the rival. It skips the test without root.
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

// Exchange swaps two names in a loop, by renameat2(2), until stop is called, which restores
// them. It fails the test if no swap succeeded.
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
			_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) // fails if one was removed
		}
		if n == 0 {
			tb.Errorf("%s and %s were never exchanged", a, b)
		}
	}
}
