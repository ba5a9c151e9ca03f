package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/objects"
)

// Importer stores copies of tarballs in a bucket.
type Importer struct {
	bucket *objects.Bucket
	spool  *spool
}

// NewImporter returns the importer of a bucket. Below a data folder it spools tarballs that
// cannot be read twice.
func NewImporter(b *objects.Bucket, fsys disk.FS, dataDir string) *Importer {
	return &Importer{b, newSpool(Options{FS: fsys, Dir: dataDir})}
}

// Has reports whether the bucket has the key, which names the content.
func (i *Importer) Has(ctx context.Context, e receiver.Entry) (bool, error) {
	o, err := i.bucket.Stat(ctx, keyOf(e))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && o.Size == e.Size, Explain(err)
}

// Import uploads the tarball. The store compares it with the row's digest.
func (i *Importer) Import(ctx context.Context, e receiver.Entry, t receiver.Tarball) (err error) {
	if _, file := t.(*os.File); !file {
		u := receiver.Upload{Host: e.Host, Episode: e.Episode, Digest: e.Digest, Size: e.Size, Commit: e.Commit}
		sp, err := i.spool.take(u, t)
		if err != nil {
			return fmt.Errorf("read the tarball: %w", err)
		}
		err = Explain(i.bucket.Put(ctx, keyOf(e), sp, e.Size, e.Digest))
		return errors.Join(err, sp.end(err == nil))
	}
	return Explain(i.bucket.Put(ctx, keyOf(e), t, e.Size, e.Digest))
}
