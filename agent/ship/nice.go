package ship

import (
	"context"
	"io"
	"runtime"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// lowPriority keeps the calling goroutine on a thread of its own that gives way
// to recordings, in CPU and disk. The thread ends with the goroutine.
func lowPriority() {
	runtime.LockOSThread()
	const (
		self         = 0
		ofProcess    = 1
		bestEffort7  = 2<<13 | 7
		niceOfPacker = 10
	)
	// Refused, it packs at the usual priority.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceOfPacker)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ofProcess, self, bestEffort7)
}

// bandwidth returns the limit that all uploads share; nil is none.
func bandwidth(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), min(max(perSecond/4, 1), 64<<10))
}

// limited reads no faster than the configured bandwidth.
func (s *Shipper) limited(ctx context.Context, r io.ReadCloser) io.ReadCloser {
	if s.limit == nil {
		return r
	}
	return &limitedReader{r, ctx, s.limit}
}

type limitedReader struct {
	io.ReadCloser
	ctx   context.Context
	limit *rate.Limiter
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p[:min(len(p), l.limit.Burst())])
	if n > 0 {
		if wait := l.limit.WaitN(l.ctx, n); wait != nil {
			return 0, wait
		}
	}
	return n, err
}
