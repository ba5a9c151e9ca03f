package client

import (
	"context"
	"errors"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"cis490/internal/wire"
)

// TestWatch_InterimAnswersAloneEnd: interim answers extend the timeout only as long as a
// receiver may work on an upload.
func TestWatch_InterimAnswersAloneEnd(t *testing.T) {
	for name, c := range map[string]struct {
		size    int64 // of the upload; negative: another request
		atLeast time.Duration
		atMost  time.Duration
	}{
		"ping":          {-1, time.Minute, time.Minute},
		"small episode": {1, 30 * time.Minute, 31 * time.Minute},
		"large episode": {4 << 30, 98 * time.Minute, 100 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			var working time.Duration
			if c.size >= 0 {
				working = workingFor(c.size)
			}
			s := watch(t.Context(), time.Minute, working)
			defer s.stop()
			start := time.Now()
			for s.ctx.Err() == nil {
				if err := httptrace.ContextClientTrace(s.ctx).Got1xxResponse(102, nil); err != nil {
					t.Fatal(err)
				}
				select {
				case <-s.ctx.Done():
				case <-time.After(20 * time.Second):
				}
			}
			if took := time.Since(start); took < c.atLeast || took > c.atMost || !errors.Is(context.Cause(s.ctx), ErrSilence) {
				t.Errorf("%s: ended after %s: %v", name, took, context.Cause(s.ctx))
			}
		})
	}
}

func TestWatch_InterimAnswersAreCounted(t *testing.T) {
	s := watch(t.Context(), time.Minute, time.Hour)
	defer s.stop()
	got, err := httptrace.ContextClientTrace(s.ctx).Got1xxResponse, error(nil)
	n := 0
	for ; err == nil && n < 1_000_000; n++ {
		err = got(102, nil)
	}
	if !errors.Is(err, wire.ErrNotOurs) || n > maxInterim+1 {
		t.Errorf("%d answers: %v", n, err)
	}
}
