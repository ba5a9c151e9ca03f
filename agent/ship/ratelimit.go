package ship

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// bandwidth returns the rate limiter that all uploads share, or nil for no limit.
func bandwidth(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), min(max(perSecond/4, 1), 64<<10))
}

// limited wraps r to read at most at the configured bandwidth.
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
