package commands

import (
	"context"
	"strings"
	"time"
)

// grace is how long a command has to end by itself after a signal. Most end at once
// with their context; what cannot be interrupted (a read of standard input, a lock
// that another process holds, a file system that does not answer) ends with the
// program, as it does when power fails.
const grace = 800 * time.Millisecond

// Exit codes of a program that a signal ended, as shells have them.
const (
	exitInterrupt = 130
	exitTerminate = 143
)

// interruptible runs a command to its end, or to the end of the grace after the
// context's. A command that called stopsItself has all the time it needs: systemd, or
// a second signal, is what ends it.
func (a *app) interruptible(ctx context.Context, run func() int) int {
	done := make(chan int, 1)
	go func() { done <- run() }()
	select {
	case code := <-done:
		return code
	case <-ctx.Done():
	}
	if a.patient.Load() {
		return <-done
	}
	select {
	case code := <-done:
		return code
	case <-time.After(grace):
	}
	code := exitTerminate
	if strings.Contains(context.Cause(ctx).Error(), "interrupt") {
		code = exitInterrupt
	}
	said := make(chan struct{})
	go func() {
		a.errorf("error: interrupted")
		close(said)
	}()
	select {
	case <-said:
	case <-time.After(grace / 8): // nobody reads: a stopped terminal, a full pipe
	}
	return code
}

// stopsItself marks the running command as a daemon: it ends in good order, which
// takes longer than the grace of others.
func (a *app) stopsItself() { a.patient.Store(true) }
