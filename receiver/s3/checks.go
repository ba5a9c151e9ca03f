package s3

import (
	"context"
	"errors"
	"time"

	"cis490/internal/check"
	"cis490/internal/machine"
	"cis490/receiver/objects"
)

// maxSkew bounds the difference of the clocks. Stores reject requests at 15 minutes.
const maxSkew = 5 * time.Minute

// checkTimeout bounds a check, so that it reports what the store did not answer before
// doctor gives up on the check.
const checkTimeout = check.Timeout * 8 / 10

const here = "on the receiver: "

// Checks returns doctor's checks of an object store; id returns the id of the store in the
// data folder. Without a bucket they pass.
func Checks(b *objects.Bucket, id func() string) []check.Check {
	on := func(run func(context.Context) check.Result) func(context.Context) check.Result {
		return func(ctx context.Context) check.Result {
			if b == nil {
				return check.Passf("not used: tarballs are in data_dir")
			}
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			return run(ctx)
		}
	}
	const probed = "doctor" // differs from serve's name, because both may probe at the same time
	return []check.Check{
		{
			ID: "store.bucket", Title: "Object store can be used", Severity: check.Hard,
			Fix: here + "sudo journalctl -u cis490-receiver -n 20 --no-pager   # then fix what it names: [store.s3] or its keys, the rights " +
				"or quota of the bucket, or the store",
			Doc: "An object below probe/ can be written, read and listed. Otherwise every upload is answered 503 or 507, and hosts keep their " +
				"episodes.",
			Run: on(func(ctx context.Context) check.Result {
				if err := b.Probe(ctx, probed); err != nil {
					return check.Failf("%v", err)
				}
				return check.Passf("%s", b.Name())
			}),
		},
		{
			ID: "store.digest", Title: "Object store compares digests", Severity: check.Soft,
			Fix: here + "cis490 store copy --help   # move to a store that compares digests; until then every object is read back",
			Doc: "The store rejects a body that differs from its signed sha256. Otherwise serve reads each object back before it acknowledges " +
				"the episode, which doubles the traffic.",
			Run: on(func(ctx context.Context) check.Result {
				if err := b.Probe(ctx, probed+"-digest"); err != nil {
					return check.Skipf("the object store cannot be used")
				}
				if !b.ChecksDigests() {
					return check.Warnf("a wrong body was stored")
				}
				return check.Passf("a wrong body was refused")
			}),
		},
		{
			ID: "store.same", Title: "Bucket belongs to this store", Severity: check.Hard,
			Fix: here + "sudo cis490 config check   # then fix [store.s3] bucket and prefix, or data_dir; for a new store: sudo cis490 store init",
			Doc: "The bucket is marked with the id of the store in data_dir. Otherwise rows and objects would belong to different stores, and " +
				"serve accepts no uploads.",
			Run: on(func(ctx context.Context) check.Result {
				switch err := Marked(ctx, b, id()); {
				case errors.Is(err, ErrOther):
					return check.Failf("%v", err)
				case err != nil:
					return check.Skipf("the object store cannot be used")
				}
				return check.Passf("store %s", id())
			}),
		},
		{
			ID: "store.clock", Title: "Object store's clock agrees", Severity: check.Hard,
			Fix: here + machine.ClockFix,
			Doc: "The clocks of this machine and of the object store differ by less than 5 minutes. At 15 minutes the store refuses every request.",
			Run: on(func(ctx context.Context) check.Result {
				if err := Marked(ctx, b, id()); err != nil && !errors.Is(err, ErrOther) && !errors.Is(err, objects.ErrSkewed) {
					return check.Skipf("the object store cannot be used")
				}
				if skew := b.Skew(); skew.Abs() > maxSkew {
					return check.Failf("the object store's clock is %s ahead of this one; if this one is right, mend the store's", skew.Round(time.Second))
				}
				return check.Passf("within %s", maxSkew)
			}),
		},
	}
}
