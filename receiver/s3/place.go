package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cis490/internal/fault"
	"cis490/receiver/objects"
)

// markerKey is the object that names the bucket's store.
const markerKey = "cis490-store.json"

// markerSchema is the content of that object.
const markerSchema = "cis490.store/1"

type marker struct {
	Schema  string    `json:"schema"`
	StoreID string    `json:"store_id"`
	MadeAt  time.Time `json:"made_at"`
}

// ErrOther reports that a bucket belongs to another store, or to none.
var ErrOther = errors.New("the bucket belongs to another store")

// Mark marks a bucket as a store's. It returns ErrOther if the bucket belongs to another.
func Mark(ctx context.Context, b *objects.Bucket, id string, now time.Time) error {
	switch err := Marked(ctx, b, id); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return write(ctx, b, id, now)
}

// TakeOver marks a bucket of another store as a store's. The other must not serve any more.
func TakeOver(ctx context.Context, b *objects.Bucket, id string, now time.Time) error {
	err := Marked(ctx, b, id)
	if err == nil || !errors.Is(err, ErrOther) {
		return err
	}
	return write(ctx, b, id, now)
}

func write(ctx context.Context, b *objects.Bucket, id string, now time.Time) error {
	content, err := json.Marshal(marker{markerSchema, id, now.UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if err := b.Write(ctx, markerKey, append(content, '\n')); err != nil {
		return err
	}
	return Marked(ctx, b, id) // of two concurrent calls, one fails here
}

// Marked returns an error if a bucket is not marked as a store's; it wraps fs.ErrNotExist
// if there is no mark.
func Marked(ctx context.Context, b *objects.Bucket, id string) error {
	content, err := b.Read(ctx, markerKey, 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Fix(fmt.Errorf("%w: %s has no %s: %w", ErrOther, b.Name(), markerKey, err),
			"sudo cis490 store init   # for a new store; sudo cis490 store copy moves one that has episodes")
	}
	if err != nil {
		return err
	}
	var m marker
	if err := json.Unmarshal(content, &m); err != nil || m.Schema != markerSchema {
		return fault.Fix(fmt.Errorf("%w: %s in %s cannot be read", ErrOther, markerKey, b.Name()), "check [store.s3] bucket and prefix")
	}
	if m.StoreID != id {
		return fault.Fix(fmt.Errorf("%w: %s is of store %.40q, not of %s", ErrOther, b.Name(), m.StoreID, id),
			"check [store.s3] bucket and prefix   # or that data_dir is the one that belongs to this bucket")
	}
	return nil
}
