// Command cis490 runs a fleet of lab hosts and the receiver they ship episodes to. See
// docs/architecture.md.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"cis490/commands"
	"cis490/internal/version"
)

// Set by the Makefile with -ldflags -X.
var buildVersion, buildCommit, buildDirty string

func main() {
	log.SetOutput(io.Discard) // net/http logs unescaped text of clients here
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program
	code := commands.Main(ctx, os.Args, commands.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
		Build: version.Read(buildVersion, buildCommit, buildDirty),
	})
	stop()
	os.Exit(code)
}
