package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"cis490/internal/ident"
)

// contentType is the type of every object, as in package wire.
const contentType = "application/zstd"

// Put stores an object of size bytes with a digest, and returns when the store has
// acknowledged it. Each try reads body again. After an error the object may still appear,
// now or later.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64, d ident.Digest) error {
	var err error
	if size <= b.single {
		err = b.attempt(ctx, "put", limitFor(size), func(ctx context.Context) error {
			return b.putOnce(ctx, key, io.NewSectionReader(body, 0, size), size, string(d))
		})
	} else {
		err = b.putParts(ctx, key, body, size, d)
	}
	if err != nil || b.ChecksDigests() {
		return err
	}
	return b.readBack(ctx, key, size, d)
}

// Stream sends an object whose body is read only once, while it arrives, with one request.
// It returns errors.ErrUnsupported for an object that has to be read or sent in another way.
// After any error Put may still store the object.
func (b *Bucket) Stream(ctx context.Context, key string, body io.Reader, size int64, d ident.Digest) error {
	if size > b.single || !b.ChecksDigests() {
		return errors.ErrUnsupported
	}
	began := time.Now()
	one, cancel := context.WithTimeout(ctx, limitFor(size))
	defer cancel()
	err := classify(b.putOnce(one, key, body, size, string(d)))
	if ctx.Err() == nil { // its caller did not give up
		b.observed("put", err, began)
	}
	return err
}

func (b *Bucket) options(d string) minio.PutObjectOptions {
	// DisableContentSha256 keeps minio from replacing the hash by a signature per chunk,
	// which would disable the store's check of the body.
	return minio.PutObjectOptions{
		ContentType: contentType, DisableContentSha256: true, DisableMultipart: true, UserMetadata: map[string]string{"sha256": d},
	}
}

func (b *Bucket) putOnce(ctx context.Context, key string, body io.Reader, size int64, d string) error {
	r := &outgoing{body: body}
	info, err := b.calls.put(ctx, b.o.Bucket, b.o.Prefix+key, r, size, "", d, b.options(d))
	if err != nil {
		return err
	}
	return r.acknowledged(info.ETag, size)
}

// outgoing is the body of a request. It has no Seek and Close, which minio would use.
type outgoing struct {
	body io.Reader
	read atomic.Int64 // bytes
}

// Read implements io.Reader.
func (o *outgoing) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	o.read.Add(int64(n))
	return n, err
}

// acknowledged returns an error for a success that cannot be one: some gateways send errors
// with status 200, or answer before they have the body.
func (o *outgoing) acknowledged(etag string, size int64) error {
	if etag == "" {
		return fmt.Errorf("%w: a success without an ETag", ErrSlow)
	}
	if n := o.read.Load(); n < size {
		return fmt.Errorf("%w: a success after %d of %d bytes", ErrSlow, n, size)
	}
	return nil
}

// putParts sends an object in parts. Each part is signed with its own digest; their
// whole content is compared with d before the store joins them.
func (b *Bucket) putParts(ctx context.Context, key string, body io.ReaderAt, size int64, d ident.Digest) (err error) {
	var id string
	err = b.attempt(ctx, "multipart", answerTimeout, func(ctx context.Context) (err error) {
		id, err = b.calls.begin(ctx, b.o.Bucket, b.o.Prefix+key, b.options(string(d)))
		if err == nil && id == "" { // an error with status 200
			err = fmt.Errorf("%w: a success without an upload id", ErrSlow)
		}
		return err
	})
	if err != nil {
		return err
	}
	finished := false
	defer func() {
		if finished {
			return
		}
		// Also after a cancellation; Abort finds the rest.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		_ = b.calls.abort(end, b.o.Bucket, b.o.Prefix+key, id)
	}()
	parts, err := b.sendParts(ctx, key, id, body, size, d)
	if err != nil {
		return err
	}
	err = b.attempt(ctx, "complete", limitFor(size), func(ctx context.Context) error {
		info, err := b.calls.complete(ctx, b.o.Bucket, b.o.Prefix+key, id, parts, minio.PutObjectOptions{})
		if err == nil {
			return new(outgoing).acknowledged(info.ETag, 0)
		}
		if !errors.Is(classify(err), fs.ErrNotExist) {
			return err
		}
		// An earlier try succeeded and its answer was lost: the upload is completed.
		o, stat := b.calls.stat(ctx, b.o.Bucket, b.o.Prefix+key, minio.StatObjectOptions{})
		if stat != nil || o.Size != size {
			return fmt.Errorf("%w: the upload is gone, and its object is not there", ErrSlow)
		}
		return nil
	})
	finished = err == nil
	return err
}

func (b *Bucket) sendParts(
	ctx context.Context, key, id string, body io.ReaderAt, size int64, d ident.Digest,
) ([]minio.CompletePart, error) {
	each := max(b.part, (size+maxParts-1)/maxParts)
	parts := make([]minio.CompletePart, (size+each-1)/each)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAhead)
	whole := sha256.New()
	for i := range parts {
		if gctx.Err() != nil {
			break
		}
		at := int64(i) * each
		n := min(each, size-at)
		sum := sha256.New()
		if _, err := io.Copy(io.MultiWriter(sum, whole), io.NewSectionReader(body, at, n)); err != nil {
			return nil, errors.Join(fmt.Errorf("read the spooled body: %w", err), g.Wait())
		}
		hash := hex.EncodeToString(sum.Sum(nil))
		g.Go(func() error {
			return b.attempt(gctx, "part", limitFor(n), func(ctx context.Context) error {
				r := &outgoing{body: io.NewSectionReader(body, at, n)}
				p, err := b.calls.putPart(ctx, b.o.Bucket, b.o.Prefix+key, id, i+1, r, n,
					minio.PutObjectPartOptions{Sha256Hex: hash, DisableContentSha256: true})
				if err != nil {
					return err
				}
				parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: p.ETag}
				return r.acknowledged(p.ETag, n)
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != string(d) {
		return nil, fmt.Errorf("%w: the spooled body is %s now, not %s", ErrDamaged, got, d)
	}
	return parts, ctx.Err()
}

// readBack compares the stored object with the sent one, for a store that does not check.
func (b *Bucket) readBack(ctx context.Context, key string, size int64, d ident.Digest) error {
	return b.attempt(ctx, "read back", limitFor(size), func(ctx context.Context) error {
		got, err := b.hash(ctx, key)
		if err == nil && got != d {
			err = fmt.Errorf("%w: %s has %s, sent was %s", ErrDamaged, key, got, d)
		}
		return err
	})
}

func (b *Bucket) hash(ctx context.Context, key string) (ident.Digest, error) {
	r, _, _, err := b.calls.get(ctx, b.o.Bucket, b.o.Prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, r)
	return ident.Digest(hex.EncodeToString(sum.Sum(nil))), errors.Join(err, r.Close())
}

// Abort aborts unfinished multipart uploads that began before a time, and returns how many.
// They are invisible in listings and use space.
func (b *Bucket) Abort(ctx context.Context, before time.Time) (n int, err error) {
	err = b.attempt(ctx, "abort", 10*answerTimeout, func(ctx context.Context) error {
		for u := range b.calls.unfinished(ctx, b.o.Bucket, b.o.Prefix, true) {
			if u.Err != nil {
				return u.Err
			}
			if !u.Initiated.Before(before) {
				continue
			}
			if err := b.calls.abort(ctx, b.o.Bucket, u.Key, u.UploadID); err != nil && !errors.Is(classify(err), fs.ErrNotExist) {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}
