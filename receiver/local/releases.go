package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/receiver"
)

// ReleasesDir returns the folder of published releases, for the commands that publish.
func ReleasesDir(data string) string { return filepath.Join(data, "releases") }

// releases is the folder of published releases.
type releases struct {
	fs  disk.FS
	dir string
}

// List reads the signed manifests.
func (r releases) List() ([]manifest.Published, error) { return manifest.List(r.fs, r.dir) }

// Orders reads orders.jsonl.
func (r releases) Orders() ([]manifest.Order, error) { return manifest.Orders(r.fs, r.dir) }

// Version returns the size of orders.jsonl, which only grows.
func (r releases) Version() (string, error) {
	fi, err := r.fs.Lstat(filepath.Join(r.dir, "orders.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d-%d", fi.Size(), fi.ModTime().UnixNano()), nil
}

// Rollout reads rollout.json.
func (r releases) Rollout() (manifest.Rollout, error) { return manifest.ReadRollout(r.fs, r.dir) }

// Give appends to orders.jsonl.
func (r releases) Give(o manifest.Order) error { return manifest.Give(r.fs, r.dir, time.Now, o) }

// LoadRollout reads rollout.json.
func (r releases) LoadRollout() ([]byte, error) {
	return disk.ReadFile(r.fs, manifest.RolloutPath(r.dir), manifest.MaxRollout)
}

// SaveRollout replaces rollout.json.
func (r releases) SaveRollout(content []byte) error {
	if err := disk.MkdirAll(r.fs, r.dir, 0o755); err != nil {
		return err
	}
	return disk.ReplaceBytes(r.fs, manifest.RolloutPath(r.dir), 0o644, content)
}

// Blob opens the file.
func (r releases) Blob(d ident.Digest) (receiver.Tarball, error) {
	return openFile(r.fs, manifest.BlobPath(r.dir, d))
}

// PackedBlob opens the compressed file.
func (r releases) PackedBlob(d ident.Digest) (receiver.Tarball, error) {
	return openFile(r.fs, manifest.PackedPath(r.dir, d))
}

// BlobSize stats the file.
func (r releases) BlobSize(d ident.Digest) (int64, error) {
	fi, err := r.fs.Lstat(manifest.BlobPath(r.dir, d))
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
