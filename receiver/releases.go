package receiver

import (
	"errors"

	"cis490/internal/ident"
	"cis490/internal/manifest"
)

// ErrCopies reports that a receiver has copies of the releases: orders are given on another one.
var ErrCopies = errors.New("this receiver has copies of the releases; orders are given on the one that has the authority")

// Releases are the published releases, people's orders about them, and their progress.
type Releases interface {
	// List returns the published releases, newest first.
	List() ([]manifest.Published, error)
	// Orders returns all orders, oldest first.
	Orders() ([]manifest.Order, error)
	// Version changes with each order; empty if there is none.
	Version() (string, error)
	// Rollout returns the progress of the releases.
	Rollout() (manifest.Rollout, error)
	// Give appends an order durably.
	Give(manifest.Order) error
	// LoadRollout returns the document behind Rollout, or fs.ErrNotExist.
	LoadRollout() ([]byte, error)
	// SaveRollout replaces that document durably.
	SaveRollout([]byte) error
	// Blob opens a published file; fs.ErrNotExist if it is not published.
	Blob(ident.Digest) (Tarball, error)
	// PackedBlob opens the compressed content of a published file; fs.ErrNotExist if there is
	// none.
	PackedBlob(ident.Digest) (Tarball, error)
	// BlobSize returns the size of a published file.
	BlobSize(ident.Digest) (int64, error)
}
