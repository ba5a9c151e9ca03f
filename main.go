// Command cis490 runs a fleet of lab hosts and the receiver they ship to. See
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

// Stamped by the Makefile with -ldflags -X.
var buildVersion, buildCommit, buildDirty string

func main() {
	log.SetOutput(io.Discard) // net/http's: what a peer sent, past the writers of Env
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := commands.Main(ctx, os.Args, commands.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
		Build: version.Read(buildVersion, buildCommit, buildDirty),
	})
	stop()
	os.Exit(code)
}
