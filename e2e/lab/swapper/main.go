// Command swapper exchanges two names with each other, as fast as it can, until it
// gets SIGTERM. It is what a user tries who owns a folder and wants a program with
// more rights to follow a link: one name is the folder, the other the link.
//
//	swapper /var/lib/cis490/releases/blobs /var/lib/cis490/releases/link
//
// It goes on while a name is missing. At the end both names
// are as at the start, and the number of exchanges is printed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: swapper NAME NAME")
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(swap(ctx, os.Args[1], os.Args[2]))
}

// swap exchanges two names until the context ends, and returns how often it did.
func swap(ctx context.Context, a, b string) (n int) {
	for ctx.Err() == nil || n%2 == 1 {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err == nil {
			n++
		} else if ctx.Err() != nil {
			return n
		}
	}
	return n
}
