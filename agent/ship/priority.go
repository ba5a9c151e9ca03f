package ship

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// atLowPriority calls f on a thread with low CPU and I/O priority, so that recordings go
// first. The thread ends with f: it could not get its priority back, and a goroutine that
// waits while it is locked to a thread costs two thread switches for each wake.
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
