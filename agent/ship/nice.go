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

// limited reads no faster than the configured bandwidth.
func (s *Shipper) limited(ctx context.Context, r io.ReadCloser) io.ReadCloser {
	limit := int(s.Config.BandwidthPerSecond)
	if limit <= 0 {
		return r
	}
	burst := min(max(limit/4, 1), 64<<10)
	return &limitedReader{r, ctx, rate.NewLimiter(rate.Limit(limit), burst)}
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
