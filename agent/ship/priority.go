package ship

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// atLowPriority calls f on a thread with low CPU and I/O priority, so that recordings go
// first. Each call uses a new thread, which ends with f. A thread cannot get its priority
// back, and a worker that stays locked to one low thread would cost two thread switches at
// each wake.
func atLowPriority(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		const (
			self         = 0
			ofProcess    = 1
			bestEffort7  = 2<<13 | 7
			niceOfPacker = 10
		)
		// Without the permission, packing runs at normal priority.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceOfPacker)
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ofProcess, self, bestEffort7)
		f()
	}()
	<-done
}
