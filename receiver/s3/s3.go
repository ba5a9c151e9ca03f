// Package s3 is the backend that keeps tarballs in an object store, and leaves everything
// else to another backend: the data folder, or package pg.
//
// An upload is spooled on this machine, hashed and admitted before it is sent. Its key names
// its content, so sending it again writes the same bytes. The row in the index is the commit
// point. A claim, an empty file in puts/, is durable before the object is sent and removed
// after the row is durable. So an object without a row has a claim, and claims of an episode
// are resolved before any answer about it.
//
// An upload deletes nothing. If another content of the same episode got the row, the object
// is superseded, and deleted after a day, if there is a key that may delete. Objects with
// unknown names are counted and kept.
//
// If the rows are in a database, there are no claims, and superseded objects are kept: see
// shared.
//
//storage:adapter
package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/machine"
	"cis490/receiver"
	"cis490/receiver/objects"
)

// Options describe a backend.
type Options struct {
	Base    receiver.Backend // ledgers, documents and leases
	Bucket  *objects.Bucket
	FS      disk.FS
	Dir     string // the data folder of Base
	Reserve int64  // bytes that stay free there
	Uploads int    // maximum of concurrent uploads
	Now     func() time.Time
	Log     *slog.Logger
}

// Open returns the backend. It neither opens files nor sends requests.
func Open(o Options) receiver.Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := o.Base
	b.Name = o.Bucket.Name() + " and " + o.Base.Name
	b.Episodes = episodes{o}
	b.Serve = o.serve
	b.Observe = o.Bucket.Observe
	b.Explain = func(err error) error { return o.Base.Explain(Explain(err)) }
	b.Checks = func(owner string, reserve int64) []check.Check {
		return append(o.Base.Checks(owner, reserve), Checks(o.Bucket, o.id)...)
	}
	return b
}

// Explain adds the fix to an error of an object store.
func Explain(err error) error {
	switch {
	case fault.FixOf(err) != "":
		return err
	case errors.Is(err, objects.ErrSkewed):
		return fault.Fix(err, machine.ClockFix)
	case errors.Is(err, objects.ErrDenied):
		return fault.Fix(err,
			"sudo cis490 doctor --only store.bucket   # then fix the keys in [store.s3] credentials_file, or their rights on the bucket")
	case errors.Is(err, objects.ErrFull):
		return fault.Fix(err, "raise the quota of the bucket, or add disks to the object store   # hosts keep their episodes meanwhile")
	case errors.Is(err, objects.ErrAway):
		return fault.Fix(err,
			"curl -v ENDPOINT   # the endpoint of [store.s3]: is it up, and reachable from here? hosts keep their episodes meanwhile")
	}
	return err
}

// answered converts an error of the bucket to the error that rejects an upload. Other errors
// are returned unchanged, as faults of the receiver.
func answered(err error) error {
	switch {
	case errors.Is(err, objects.ErrFull):
		return fmt.Errorf("%w: %w", receiver.ErrFull, Explain(err))
	case errors.Is(err, objects.ErrDenied), errors.Is(err, objects.ErrSkewed), errors.Is(err, ErrOther):
		return fmt.Errorf("%w: %w", receiver.ErrUnready, err)
	case errors.Is(err, objects.ErrSlow), errors.Is(err, objects.ErrAway), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", receiver.ErrBusy, err)
	}
	return err
}
