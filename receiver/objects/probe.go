package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"cis490/internal/ident"
)

// probeDir is the prefix of the objects that Probe writes.
const probeDir = "probe/"

// Probe tests the operations of an upload: it writes, reads and lists an object of this name,
// and sends a body with a wrong digest. It returns the first error. A store that accepts the
// wrong body is not an error, see ChecksDigests.
func (b *Bucket) Probe(ctx context.Context, name string) error {
	key, text := probeDir+name, []byte("written by cis490 to see whether this bucket works\n")
	sum := sha256.Sum256(text)
	d := hex.EncodeToString(sum[:])
	err := b.attempt(ctx, "put", answerTimeout, func(ctx context.Context) error {
		return b.putOnce(ctx, key, bytes.NewReader(text), int64(len(text)), d)
	})
	if err != nil {
		return err
	}
	got, err := b.Read(ctx, key, int64(len(text)))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, text) {
		return fmt.Errorf("get: %w: %s is not what was put there", ErrDamaged, key)
	}
	if all, err := b.Few(ctx, key, 1); err != nil || len(all) == 0 {
		return errors.Join(err, fmt.Errorf("list: %s is not in the listing", key))
	}
	return b.probeDigest(ctx, probeDir+name+".wrong", text)
}

// probeDigest tests whether the store rejects a body that differs from its signed digest.
func (b *Bucket) probeDigest(ctx context.Context, key string, text []byte) error {
	other := sha256.Sum256(append([]byte("not "), text...))
	err := classify(b.putOnce(ctx, key, bytes.NewReader(text), int64(len(text)), hex.EncodeToString(other[:])))
	if err == nil {
		b.checks.Store(false)
		return nil
	}
	if !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("put of a wrong body: %w", err)
	}
	switch _, err := b.Stat(ctx, key); {
	case errors.Is(err, fs.ErrNotExist):
		b.checks.Store(true)
		return nil
	case err != nil:
		return err
	}
	b.checks.Store(false) // rejected, but stored
	return nil
}

// Read returns an object of at most limit bytes, or fs.ErrNotExist.
func (b *Bucket) Read(ctx context.Context, key string, limit int64) (content []byte, err error) {
	err = b.attempt(ctx, "get", answerTimeout, func(ctx context.Context) error {
		r, err := b.Get(ctx, key, 0, -1)
		if err != nil {
			return err
		}
		content, err = io.ReadAll(io.LimitReader(r, limit+1))
		if err = errors.Join(err, r.Close()); err == nil && int64(len(content)) > limit {
			err = fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, key, limit)
		}
		return err
	})
	return content, err
}

// Write stores a small object whose key does not name its content.
func (b *Bucket) Write(ctx context.Context, key string, content []byte) error {
	sum := sha256.Sum256(content)
	return b.Put(ctx, key, bytes.NewReader(content), int64(len(content)), ident.Digest(hex.EncodeToString(sum[:])))
}
