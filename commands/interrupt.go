package commands

import (
	"context"
	"strings"
	"time"
)

// grace is how long a command may take to end after a signal. Most end at once with their
// context. Operations that cannot be interrupted (reading standard input, waiting for a
// lock, a hung file system) end with the program, as in a power failure.
const grace = 800 * time.Millisecond

// Exit codes after a signal, as in shells.
const (
	exitInterrupt = 130
	exitTerminate = 143
)

// interruptible runs a command until it ends, or until grace after the context ends. A
// command that called stopsItself may take any time; systemd or a second signal kills it.
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
	case <-time.After(grace / 8): // blocked: a stopped terminal, a full pipe
	}
	return code
}

// stopsItself marks the running command as a daemon, whose shutdown may take longer than
// grace.
func (a *app) stopsItself() { a.patient.Store(true) }
