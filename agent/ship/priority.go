package ship

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lowPriority locks the calling goroutine to a thread with low CPU and I/O priority, so
// that recordings go first. The thread ends with the goroutine.
func lowPriority() {
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
}
