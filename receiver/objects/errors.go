package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"cis490/internal/httpclient"
	"cis490/internal/plain"
)

// Errors of the store. Every error of a Bucket wraps one of these, fs.ErrNotExist, or its
// context's error.
var (
	ErrAway    = errors.New("the object store does not answer")
	ErrSlow    = errors.New("the object store asks for fewer requests, or fails")
	ErrFull    = errors.New("the object store is full")
	ErrDenied  = errors.New("the object store denies access")
	ErrSkewed  = errors.New("the object store refuses this machine's clock")
	ErrDamaged = errors.New("the object store received another content than was sent")
)

// Number of tries of one request, and the first pause between them, which doubles.
const (
	tries     = 3
	firstWait = 200 * time.Millisecond
)

// classify converts an error of the store to one of the errors above.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, own := range []error{ErrAway, ErrSlow, ErrFull, ErrDenied, ErrSkewed, ErrDamaged, fs.ErrNotExist} {
		if errors.Is(err, own) {
			return err
		}
	}
	kind := ErrSlow
	r, answered := errors.AsType[minio.ErrorResponse](err)
	if _, redirected := errors.AsType[*httpclient.Redirect](err); redirected {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	if !answered {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	switch r.Code {
	case "QuotaExceeded", "StorageFull", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity":
		kind = ErrFull
	case "RequestTimeTooSkewed", "RequestExpired":
		kind = ErrSkewed
	case "XAmzContentSHA256Mismatch", "BadDigest", "InvalidDigest":
		kind = ErrDamaged
	case minio.NoSuchKey, "NoSuchUpload":
		kind = fs.ErrNotExist
	default:
		switch {
		case r.StatusCode == http.StatusInsufficientStorage:
			kind = ErrFull
		case r.Code == "RequestTimeout", r.Code == "SlowDown", r.Code == "IncompleteBody", r.StatusCode == http.StatusTooManyRequests,
			r.StatusCode == http.StatusRequestTimeout,
			r.StatusCode == http.StatusConflict:
		case r.StatusCode/100 == 4:
			kind = ErrDenied // NoSuchBucket, InvalidAccessKeyId, SignatureDoesNotMatch and other permanent errors
		}
	}
	return fmt.Errorf("%w: %s (status %d): %s", kind, plain.Line(r.Code, 60), r.StatusCode, plain.Line(strings.TrimSpace(r.Message), 200))
}

// outcome returns an error in one word.
func outcome(err error) string {
	for word, kind := range map[string]error{
		"away": ErrAway, "slow": ErrSlow, "full": ErrFull, "denied": ErrDenied, "skewed": ErrSkewed, "damaged": ErrDamaged,
		"absent": fs.ErrNotExist,
	} {
		if errors.Is(err, kind) {
			return word
		}
	}
	if err != nil {
		return "failed"
	}
	return "ok"
}

// waits reports whether the error is temporary.
func waits(err error) bool { return errors.Is(err, ErrSlow) || errors.Is(err, ErrAway) }

func timedOut(err error) bool {
	x, ok := errors.AsType[net.Error](err)
	return ok && x.Timeout()
}

// attempt sends a request, up to three times while its error is temporary. Each try has its
// own time limit.
func (b *Bucket) attempt(ctx context.Context, op string, limit time.Duration, call func(context.Context) error) (err error) {
	began := time.Now()
	defer func() { b.observed(op, err, began) }()
	for n := range tries {
		one, cancel := context.WithTimeout(ctx, limit)
		err = classify(call(one))
		cancel()
		// After a timeout, the host that waits may succeed at another receiver sooner.
		again := waits(err) && !timedOut(err) || errors.Is(err, ErrDamaged) && n == 0
		if !again || ctx.Err() != nil || n == tries-1 {
			break
		}
		pause := time.NewTimer(rand.N(firstWait<<n) + firstWait<<n/2) //nolint:gosec // jitter is not a secret
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (b *Bucket) observed(op string, err error, began time.Time) {
	if f := b.observe.Load(); f != nil {
		(*f)(op, outcome(err), time.Since(began))
	}
}

// limitFor returns the time limit of a try that transfers a number of bytes: a quarter of a
// MiB per second is the minimum rate.
func limitFor(size int64) time.Duration {
	return answerTimeout + time.Duration(size>>18)*time.Second
}
