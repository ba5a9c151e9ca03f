package objects

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/minio/minio-go/v7"

	"cis490/internal/fault"
	"cis490/internal/ident"
)

// Stat describes an object, or returns fs.ErrNotExist.
func (b *Bucket) Stat(ctx context.Context, key string) (o Object, err error) {
	err = b.attempt(ctx, "stat", answerTimeout, func(ctx context.Context) error {
		info, err := b.calls.stat(ctx, b.o.Bucket, b.o.Prefix+key, minio.StatObjectOptions{})
		o = Object{Key: key, Size: info.Size, At: info.LastModified}
		return err
	})
	return o, err
}

// Get reads n bytes of an object from an offset, or all if n is negative. ctx also cancels
// reads of the result.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	var o minio.GetObjectOptions
	end := int64(0) // to the object's end
	if n > 0 {
		end = off + n - 1
	}
	if off > 0 || n > 0 {
		if err := o.SetRange(off, end); err != nil {
			return nil, fmt.Errorf("get: %w", err)
		}
	}
	// Without attempt's time limit, which would cancel reads.
	for range tries {
		r, _, _, err = b.calls.get(ctx, b.o.Bucket, b.o.Prefix+key, o)
		if err = classify(err); err == nil || !waits(err) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	return r, nil
}

// List yields the objects whose keys begin with a prefix and come after a key, in the
// order of their keys. After an error the sequence ends.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return b.list(ctx, prefix, after, "", 0)
}

// Folders yields the beginnings of keys up to the next slash after a prefix, each once, in
// order.
func (b *Bucket) Folders(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for o, err := range b.list(ctx, prefix, "", "/", 0) {
			if !yield(o.Key, err) || err != nil {
				return
			}
		}
	}
}

// Few is List with one request, for at most n objects.
func (b *Bucket) Few(ctx context.Context, prefix string, n int) (all []Object, err error) {
	for o, err := range b.list(ctx, prefix, "", "", n) {
		if err != nil {
			return nil, err
		}
		if all = append(all, o); len(all) == n {
			break
		}
	}
	return all, nil
}

func (b *Bucket) list(ctx context.Context, prefix, after, delimiter string, most int) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		start := ""
		if after != "" {
			start = b.o.Prefix + after
		}
		for more, token := true, ""; more; {
			var page minio.ListBucketV2Result
			err := b.attempt(ctx, "list", answerTimeout, func(ctx context.Context) (err error) {
				page, err = b.page(ctx, prefix, start, token, delimiter, most)
				return err
			})
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, folder := range page.CommonPrefixes { // with a delimiter
				page.Contents = append(page.Contents, minio.ObjectInfo{Key: folder.Prefix})
			}
			for _, o := range page.Contents {
				key, ok := strings.CutPrefix(o.Key, b.o.Prefix)
				if !ok || !strings.HasPrefix(key, prefix) {
					yield(Object{}, fmt.Errorf("list: %w: a key without the prefix that was asked for", ErrDenied))
					return
				}
				if !yield(Object{Key: key, Size: o.Size, At: o.LastModified}, nil) {
					return
				}
			}
			more, token = page.IsTruncated, page.NextContinuationToken
		}
	}
}

// page returns one page of a listing. minio's call takes no context, so only the wait for it
// ends with ctx; the request ends by its transport's limits.
func (b *Bucket) page(ctx context.Context, prefix, start, token, delimiter string, most int) (minio.ListBucketV2Result, error) {
	type answer struct {
		page minio.ListBucketV2Result
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		page, err := b.calls.list(b.o.Bucket, b.o.Prefix+prefix, start, token, delimiter, most)
		done <- answer{page, err}
	}()
	select {
	case a := <-done:
		return a.page, a.err
	case <-ctx.Done():
		return minio.ListBucketV2Result{}, ctx.Err()
	}
}

// Delete removes an object, with DeleteKeys.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if b.calls.remove == nil {
		return fault.Exit(fault.Fix(fmt.Errorf("delete: %w: [store.s3] delete_credentials_file is not set", ErrDenied),
			"sudo cis490 config check   # after setting it to the file of a key that may delete"), fault.NoPerm)
	}
	return b.attempt(ctx, "delete", answerTimeout, func(ctx context.Context) error {
		return b.calls.remove(ctx, b.o.Bucket, b.o.Prefix+key, minio.RemoveObjectOptions{})
	})
}

// Hash reads an object and returns its digest.
func (b *Bucket) Hash(ctx context.Context, key string) (d ident.Digest, err error) {
	for range tries {
		if d, err = b.hash(ctx, key); err == nil || ctx.Err() != nil || !waits(classify(err)) {
			break
		}
	}
	if err = classify(err); err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	return d, nil
}
